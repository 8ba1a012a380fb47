"""The faults beside kill -9, each a row: what was done to the box while clients drew, and what became of their jobs."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench import crash_disk
from bench.fault_box import FINAL, Box, Clients, bearer, checked, opens
from bench.report import Cell
from bench.start import free_port, port_open

Row = dict[str, Cell]
Fault = Callable[[Box, int, random.Random, Path], Row]

LOAD_SECONDS = 3.0
"""How long the clients draw before and after a fault."""

LOCKED_FOR = 12.0
"""Longer than SQLite itself waits."""

BALLAST_LEFT = 0
"""Bytes that a full disk still has."""

FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr error;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; client_max_body_size 64m;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; proxy_buffering off; }} }}
}}
"""


def drawing(box: Box, clients: int, rng: random.Random, hurt: Callable[[], None], **more: Any) -> tuple[Row, Clients]:
    """Clients draw, the box is hurt, they go on; then everything is looked at."""
    load = Clients(box, clients, rng, **more)
    load.start()
    time.sleep(LOAD_SECONDS)
    hurt()
    time.sleep(LOAD_SECONDS)
    load.stop()
    box.until(box.ready, "drawing again")
    return {**checked(box, load.acknowledged), "refused": load.refused}, load


def terminated(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """SIGTERM in the middle, and a new start."""
    seconds = 0.0

    def hurt() -> None:
        nonlocal seconds
        assert box.process
        began = time.monotonic()
        box.process.send_signal(signal.SIGTERM)
        box.process.wait(60)
        seconds = time.monotonic() - began
        box.start()
        box.until(lambda: port_open(box.port), "an open port")

    row, _ = drawing(box, clients, rng, hurt)
    return {"test": "SIGTERM", **row, "note": f"ended in {seconds:.1f} s"}


def locked(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """Another process holds the write lock of the queue's file."""

    def hurt() -> None:
        code = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        code += "c.execute('BEGIN EXCLUSIVE')\ntime.sleep(float(sys.argv[2]))\nc.execute('ROLLBACK')"
        command = [sys.executable, "-c", code, str(box.data / "danqing.db"), str(LOCKED_FOR)]
        subprocess.run(command, check=False)

    row, _ = drawing(box, clients, rng, hurt)
    return {"test": "SQLite locked", **row, "note": f"for {LOCKED_FOR:g} s"}


def vanished(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """Clients that ask for a picture and are gone before it is there."""
    body = b'{"prompt": "a red star", "steps": 20, "width": 128, "height": 128, "save_images": true}'
    head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: 127.0.0.1:{box.port}\r\nContent-Type: application/json\r\n"
    mine = bearer(box.tokens[0] if box.tokens else "")
    head += "".join(f"{name}: {value}\r\n" for name, value in mine.items())
    head += f"Content-Length: {len(body)}\r\n\r\n"

    def hurt() -> None:
        for _ in range(clients):
            with socket.create_connection(("127.0.0.1", box.port), 5) as gone:
                gone.sendall(head.encode() + body)
                time.sleep(rng.uniform(0, 0.2))

    row, _ = drawing(box, clients, rng, hurt)
    with httpx.Client(base_url=box.url, timeout=30, trust_env=False, headers=mine) as client:
        box.until(lambda: not client.get("/v1/jobs?active=true").json()["jobs"], "the end of what nobody waits for")
        states = [job["state"] for job in client.get("/v1/jobs?limit=1000").json()["jobs"]]
    return {"test": "clients vanish", **row, "note": f"{sum(state not in FINAL for state in states)} jobs left over"}


def proxied(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """nginx in front is killed and started again."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        return {"test": "nginx restarts", "note": "nginx is missing"}
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, upstream=box.url))
    command = [program, "-c", str(config), "-p", str(folder)]
    running = [subprocess.Popen(command, stderr=subprocess.DEVNULL)]
    box.until(lambda: port_open(port), "nginx")

    def hurt() -> None:
        for how in (signal.SIGKILL, signal.SIGTERM):
            _ended(running.pop(), how)
            running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            box.until(lambda: port_open(port), "nginx again")
            time.sleep(1)

    try:
        # Without a login the app takes nothing through a proxy; here nginx forwards no address, as a plain tunnel does.
        row, _ = drawing(box, clients, rng, hurt, url=f"http://127.0.0.1:{port}")
    finally:
        _ended(running.pop(), signal.SIGTERM)
    return {"test": "nginx restarts", **row}


def _ended(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    import psutil

    workers = psutil.Process(process.pid).children()
    process.send_signal(how)
    process.wait(30)
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


@contextmanager
def another(box: Box, data: Path, environ: dict[str, str]) -> Iterator[Box]:
    """A box of its own beside the first, which rests meanwhile."""
    box.stop()
    data.mkdir(parents=True, exist_ok=True)
    other = Box(data, {**box.environ, **environ})
    other.start()
    try:
        other.until(other.ready, "a first start")
        yield other
    finally:
        other.stop()
        box.start()
        box.until(box.ready, "drawing again")


def clock(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """The clock jumps a day ahead and an hour back."""
    library = next((path for path in FAKETIME if Path(path).exists()), None)
    if library is None:
        return {"test": "clock jumps", "note": "libfaketime is missing"}
    told = folder / "faketime"
    told.write_text("+0")
    environ = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(told),
        "FAKETIME_CACHE_DURATION": "1",
        "NO_FAKE_STAT": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }

    def hurt() -> None:
        for jump in ("+86400", "-3600", "+0"):
            told.write_text(jump)
            time.sleep(2.5)

    with another(box, folder / "clock" / "data", environ) as other:
        row, _ = drawing(other, clients, rng, hurt)
    return {"test": "clock jumps", **row, "note": "a day on, an hour back"}


def starved(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """One forward pass in ten of UNet, VAE and text encoder finds no memory."""
    command = f"{sys.executable} -m bench.failing_engine --data {folder / 'starved' / 'data'}"
    # The failing engine must not begin with a failure: its warm-up is drawn like everything else.
    environ = {"DANQING_ENGINE_COMMAND": command, "DANQING_BENCH_FAILURES": "0.1"}
    environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    with another(box, folder / "starved" / "data", environ) as other:
        row, _ = drawing(other, clients, rng, lambda: time.sleep(LOAD_SECONDS))
        with httpx.Client(base_url=other.url, timeout=30, trust_env=False) as client:
            time.sleep(1.5)
            lines = client.get("/metrics").text.splitlines()
        count = next((line.split()[1] for line in lines if line.startswith("danqing_engine_out_of_memory ")), "0")
    return {"test": "allocator failures", **row, "note": f"{float(count):.0f} calls found no memory twice"}


def full_disk(box: Box, clients: int, rng: random.Random, folder: Path) -> Row:
    """The disk is full, and has room again."""
    if os.geteuid() != 0:
        return {"test": "disk full", "note": "needs root for a small disk"}
    where = folder / "small"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(where)], check=True)
    ballast = where / "ballast"

    def hurt() -> None:
        free = shutil.disk_usage(where).free
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            file.write(bytes(max(0, free - BALLAST_LEFT)))
        time.sleep(2 * LOAD_SECONDS)
        ballast.unlink()

    environ = {"DANQING_DISK_RESERVE_MB": "0", "DANQING_DISK_WARN_MB": "0", "DANQING_DISK_WAIT_SECONDS": "1"}
    environ["DANQING_DISK_TRIES"] = "20"
    try:
        with another(box, where / "data", environ) as other:
            row, _ = drawing(other, clients, rng, hurt, refusals=(507,))
    finally:
        subprocess.run(["umount", "-l", str(where)], check=False)
    return {"test": "disk full", **row}


def crash_image(box: Box, clients: int, rng: random.Random, folder: Path, points: int = 20) -> Row:
    """The machine dies: what a disk may then hold, at many moments of one recording."""
    reason = crash_disk.why_not()
    if reason:
        return {"test": "crash images", "note": reason}
    place = folder / "crash"
    place.mkdir()
    told: list[tuple[str, int]] = []
    with crash_disk.recorded(place) as (mounted, log):
        subprocess.run(["sync", "-f", str(mounted)], check=True)
        start = log.moment()
        base = place / "base.img"
        subprocess.run(["cp", "--sparse=always", str(log.path), str(base)], check=True)
        with another(box, mounted / "data", {"DANQING_DISK_RESERVE_MB": "0"}) as other:
            heard = lambda job: told.append((job, log.moment()))  # noqa: E731
            load = Clients(other, clients, rng, heard=heard)
            load.start()
            time.sleep(3 * LOAD_SECONDS)
            load.stop()
    found = [
        _after(log, start, moment, base, place, told, rng) for moment in crash_disk.moments(log, start, points, rng)
    ]
    row: Row = {name: sum(one[name] for one in found) for name in ("jobs", "lost", "pictures", "twice", "broken")}
    writes = sum(entry is not None for entry in log.entries)
    return {
        "test": f"{len(found)} crash images",
        **row,
        "note": f"{writes} writes, {len(log.flushes())} flushes recorded by FUSE below a loop device with ext4",
    }


def _after(
    log: crash_disk.Log,
    start: int,
    moment: int,
    base: Path,
    place: Path,
    told: list[tuple[str, int]],
    rng: random.Random,
) -> dict[str, int]:
    """What is there after a crash: jobs acknowledged before it, pictures of the index, files that do not open."""
    image = place / "crash.img"
    log.crash(start, moment, base, image, rng)
    acknowledged = [job for job, at in told if at <= moment]
    with crash_disk.mounted_image(image, place / "after") as mounted:
        data = mounted / "data"
        if not (data / "danqing.db").exists():
            return {"jobs": len(acknowledged), "lost": len(acknowledged), "pictures": 0, "twice": 0, "broken": 0}
        with contextlib.closing(sqlite3.connect(data / "danqing.db")) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            try:
                known = {row[0] for row in connection.execute("SELECT id FROM job")}
                rows = connection.execute("SELECT job, position, path FROM picture WHERE complete = 1").fetchall()
            except sqlite3.OperationalError:  # died before there were tables
                known, rows = set(), []
        broken = sum(not opens(data / path) for _, _, path in rows) + (not whole)
        twice = len(rows) - len({(job, position) for job, position, _ in rows})
    lost = sum(job not in known for job in acknowledged)
    return {"jobs": len(acknowledged), "lost": lost, "pictures": len(rows), "twice": twice, "broken": broken}


FAULTS: dict[str, Fault] = {
    "term": terminated,
    "locked": locked,
    "vanish": vanished,
    "nginx": proxied,
    "clock": clock,
    "memory": starved,
    "disk": full_disk,
    "crash": crash_image,
}
"""By the name that the command line knows."""
