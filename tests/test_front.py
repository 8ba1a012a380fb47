"""The server's life: the port at once, the waiting page, handing over, signals, and kill -9 of either process."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server, free_port, start_server, wait_until_ready

FAKE = Path(__file__).parent / "jobs" / "fake_engine.py"


def fake(*arguments: str) -> dict[str, str]:
    """A program that speaks the engine's protocol, in the engine's place."""
    return {"DANQING_ENGINE_COMMAND": " ".join([sys.executable, str(FAKE), *arguments])}


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Server]:
    """A server that has just opened its port, with the fake engine."""
    running = start_server(tmp_path / "data", environment=fake(), ready=False)
    yield running
    running.stop()


def pictures(data: Path) -> list[Path]:
    return sorted((data / "outputs").rglob("*.png"))


def ask(server: Server, **fields: Any) -> threading.Thread:
    """txt2img in a thread; whatever becomes of the connection."""

    def run() -> None:
        with server.client() as client:
            try:
                client.post("/sdapi/v1/txt2img", json={"width": 64, "height": 64, "steps": 20, **fields}, timeout=60)
            except httpx.HTTPError:
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def until(condition: Any, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def jobs(server: Server) -> dict[str, float]:
    """Jobs by state, as /metrics counts them."""
    text = httpx.get(server.base_url + "/metrics").text
    return {state: float(count) for state, count in re.findall(r'danqing_jobs\{state="(\w+)"\} ([\d.]+)', text)}


def test_before_the_app_is_there(quick: Server) -> None:
    print(f"port open after {quick.port_seconds:.2f} s")
    with quick.client() as client:
        answers = [client.get("/healthz") for _ in range(2)]
        assert {answer.text for answer in answers} == {"ok"}
        assert len({answer.headers["x-danqing-start"] for answer in answers}) == 1
        state = client.get("/readyz")
        assert state.status_code == 503
        assert state.json()["ready"] is False
        program = client.get("/sdapi/v1/samplers")
        assert (program.status_code, set(program.json())) == (503, {"error", "detail", "body", "errors"})
        assert program.headers["retry-after"]
        for language, word in (("zh-CN,zh", "丹青正在启动"), ("en-US", "Danqing is starting")):
            page = client.get("/", headers={"Accept": "text/html", "Accept-Language": language})
            assert page.status_code == 503
            assert word in page.text
            assert f'<html lang="{language[:2]}">' in page.text
    wait_until_ready(quick)
    with quick.client() as client:
        state = client.get("/readyz").json()
        assert state["ready"] is True
        assert {phase["name"] for phase in state["phases"]} >= {"queue", "page"}
        assert all(phase["state"] == "done" for phase in state["phases"])
        assert client.get("/").status_code == 200
        assert client.get("/sdapi/v1/samplers").status_code == 200


def test_the_web_process_never_imports_torch(tmp_path: Path) -> None:
    code = """
import sys, pathlib, asyncio
from danqing import app as house
from danqing.api.auth import AdminAccount, Logins
data = pathlib.Path(sys.argv[1])
settings = house.load_settings(data)
library, service = house.rooms(data, settings)
house.build(service, library, settings, Logins.at(data, settings, AdminAccount(data), "127.0.0.1"))
library.checkpoints()
import danqing.front, danqing.cli
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "diffusers", "transformers", "accelerate", "scipy"}))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ready", [False, True])
def test_a_signal_ends_it_quietly(tmp_path: Path, number: signal.Signals, ready: bool) -> None:
    if ready and number is signal.SIGINT:
        pytest.skip("the same path as SIGTERM")
    running = start_server(tmp_path / "data", environment=fake(), ready=ready)
    running.process.send_signal(number)
    assert running.process.wait(15) == 0
    assert "Traceback" not in running.log_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.base_url + "/healthz")


def test_stopping_tells_waiting_clients_and_keeps_the_job(tmp_path: Path) -> None:
    running = start_server(tmp_path / "data", environment=fake("--step", "0.2"))
    answers: list[httpx.Response] = []

    def wait() -> None:
        with running.client() as client:
            answers.append(client.post("/sdapi/v1/txt2img", json={"steps": 100, "width": 64, "height": 64}))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: jobs(running).get("running") == 1, "the job did not start")
    assert running.stop() == 0
    thread.join(10)
    assert answers[0].status_code == 503
    assert answers[0].json()["error"] == "Stopping"
    again = start_server(tmp_path / "data", environment=fake(), port=running.port)
    try:
        until(lambda: len(pictures(running.data)) == 1, "the job was lost")
    finally:
        again.stop()


def test_a_second_signal_forces(tmp_path: Path) -> None:
    running = start_server(tmp_path / "data", environment={**fake("--step", "0.2"), "DANQING_SHUTDOWN_SECONDS": "60"})
    with running.client() as client, client.stream("GET", "/gradio_api/heartbeat/x"):
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 130


def test_kill_9_of_the_web_process_loses_no_job(tmp_path: Path) -> None:
    running = start_server(tmp_path / "data", environment=fake("--step", "0.05"))
    threads = [ask(running, seed=seed, prompt=f"number {seed}", save_images=True) for seed in range(6)]
    until(lambda: sum(jobs(running).get(state, 0) for state in ("waiting", "running", "done")) == 6, "not acknowledged")
    running.kill()
    for thread in threads:
        thread.join(10)
    again = start_server(tmp_path / "data", environment=fake("--step", "0.01"), port=running.port)
    try:
        until(lambda: len(pictures(running.data)) == 6, f"{len(pictures(running.data))} of 6 pictures")
        time.sleep(0.3)
        seeds = sorted(int(path.stem.split("-")[1]) for path in pictures(running.data))
        assert seeds == list(range(6))
    finally:
        again.stop()


@pytest.mark.slow
def test_kill_9_of_the_real_engine(server: Server) -> None:
    """The page stays, the job is finished."""
    with server.client() as client:
        body = {"prompt": "a red circle", "width": 128, "height": 128, "steps": 60, "seed": 5}
        alone = client.post("/sdapi/v1/txt2img", json=body).json()
        found: list[dict[str, Any]] = []
        thread = threading.Thread(
            target=lambda: found.append(server.client().post("/sdapi/v1/txt2img", json=body, timeout=120).json())
        )
        thread.start()
        until(lambda: client.get("/sdapi/v1/progress").json()["progress"] > 0.1, "the job did not start")
        os.kill(engine_of(server.process.pid), signal.SIGKILL)
        for _ in range(20):
            assert client.get("/healthz").status_code == 200
            assert client.get("/").status_code == 200
        thread.join(120)
        assert base64.b64decode(found[0]["images"][0]) == base64.b64decode(alone["images"][0])
        assert json.loads(found[0]["info"])["infotexts"] == json.loads(alone["info"])["infotexts"]
        wait_until_ready(server)


def engine_of(parent: int) -> int:
    """The engine's process, a child of the web process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat.rsplit(")", 1)[1].split()[1]) == parent and b"engine" in command:
                return int(entry.name)
    raise AssertionError("no engine")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "danqing.cli", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=30)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_no_open_door_to_the_net(tmp_path: Path, host: str) -> None:
    done = run("--host", host, "--users", "open", "--data", str(tmp_path), LANG="en_US.UTF-8", LC_ALL="")
    assert done.returncode == 2
    assert done.stderr == f"Listening on {host} needs a login: drop --users open.\n"


def test_on_another_address_a_login_is_asked(tmp_path: Path) -> None:
    running = start_server(tmp_path / "data", "--host", "0.0.0.0", environment=fake())
    try:
        assert httpx.get(running.base_url + "/sdapi/v1/samplers").status_code == 401
        auth = ("admin", running.password)
        named = httpx.get(running.base_url + "/sdapi/v1/samplers", auth=auth, headers={"Host": "box.example.org"})
        assert named.status_code == 200
    finally:
        running.stop()


def test_a_taken_port(tmp_path: Path, server: Server) -> None:
    done = run("--port", str(server.port), "--data", str(tmp_path / "other"), LC_ALL="zh_CN.UTF-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert "已被占用" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_data_in_use(server: Server) -> None:
    done = run("--port", str(free_port()), "--data", str(server.data), LC_ALL="C.UTF-8")
    assert done.returncode == 2
    assert "Another Danqing is using" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"), [("limit_steps = 'many'", "limit_steps"), ("nope = 1", "nope"), ("x = [", "settings.toml")]
)
def test_bad_settings(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    done = run("--port", str(free_port()), "--data", str(tmp_path), LC_ALL="C.UTF-8")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    done = run("--host", "192.0.2.1", "--data", str(tmp_path), LC_ALL="C.UTF-8")
    assert done.returncode == 2
    assert "192.0.2.1" in done.stderr


PICTURES = """
import io, threading
from PIL import Image
from danqing import front
from danqing.gallery import reading

def megabytes():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) >> 10

def decode():
    reading.decoded(content, 10**9, lambda image: image.convert("RGBA").tobytes())
    decoded.wait()
    measured.wait()

front.give_back_memory()
out = io.BytesIO()
Image.new("RGB", (4000, 4000)).save(out, "PNG", compress_level=1)
content, before = out.getvalue(), megabytes()
decoded, measured = threading.Barrier(5), threading.Barrier(5)
for _ in range(4):
    threading.Thread(target=decode).start()
decoded.wait()
print(megabytes() - before)
measured.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_memory_of_large_pictures_is_given_back() -> None:
    """Each thread that decodes one would keep its megabytes for as long as the server runs."""
    command = [sys.executable, "-c", PICTURES]
    kept = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert kept < 100, "four pictures have 256 MB"
