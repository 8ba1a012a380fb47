"""From the start of the process to the first picture: port, ready, picture, memory; with and without compiled bytecode."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.report import Cell, show

PICTURE = {"prompt": "a red circle on a blue background", "steps": 20, "width": 128, "height": 128, "seed": 1}
PATIENCE = 300.0
"""Seconds after which a server that is not ready is given up."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(data: Path, port: int, environ: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """`danqing serve` as a user starts it, its log in DATA/../serve.log."""
    program = str(Path(sys.executable).with_name("danqing"))
    command = [program, "serve", "--port", str(port), "--data", str(data), *arguments]
    with (data.parent / "serve.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environ)


def wait(what: str, process: subprocess.Popen[bytes], done: Any) -> None:
    """Poll `done` every 10 ms until it holds."""
    end = time.monotonic() + PATIENCE
    while not done():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"danqing serve did not get as far as: {what}")
        time.sleep(0.01)


def port_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def measure(name: str, folder: Path, environ: dict[str, str]) -> dict[str, Cell]:
    """One start on a data folder of its own: a row of the table."""
    port, data = free_port(), folder / "data"
    data.mkdir(parents=True)
    begin = time.monotonic()
    process = start(data, port, environ)
    try:
        wait("an open port", process, lambda: port_open(port))
        opened = time.monotonic() - begin
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client:
            wait("ready", process, lambda: client.get("/readyz").status_code == 200)
            ready = time.monotonic() - begin
            phases = client.get("/readyz").json().get("phases", [])
            asked = time.monotonic()
            client.post("/sdapi/v1/txt2img", json=PICTURE).raise_for_status()
            first = time.monotonic() - asked
            asked = time.monotonic()
            client.post("/sdapi/v1/txt2img", json=PICTURE).raise_for_status()
            second = time.monotonic() - asked
        memory = resident(process.pid)
    finally:
        process.terminate()
        process.wait(30)
    row: dict[str, Cell] = {
        "start": name,
        "port s": opened,
        "ready s": ready,
        "first picture s": first,
        "second s": second,
    }
    row |= {f"{phase['name']} s": float(phase["seconds"]) for phase in phases}
    return row | memory


def resident(pid: int) -> dict[str, Cell]:
    """Resident MB of the web process and of its engine."""
    web = psutil.Process(pid)
    engines = web.children(recursive=True)
    return {
        "web MB": round(web.memory_info().rss / 2**20),
        "engine MB": round(sum(child.memory_info().rss for child in engines) / 2**20),
    }


def main() -> None:
    plain = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    }
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = {**plain, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        rows.append(measure("no bytecode", folder / "none", {**cache, "PYTHONDONTWRITEBYTECODE": "1"}))
        measure("writes bytecode", folder / "writes", cache)
        rows += [measure(f"with bytecode, {count}", folder / f"cached{count}", cache) for count in (1, 2, 3)]
    notes = [
        "Seconds from the start of `danqing serve`; the pictures have 128×128 pixels and 20 steps and come through "
        "POST /sdapi/v1/txt2img, their seconds counted from the request. MB are resident memory after two pictures."
    ]
    show("start", "Start", rows, notes)


if __name__ == "__main__":
    main()
