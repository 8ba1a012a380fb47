"""Real servers for tests: `danqing serve` on a free port, with the real engine, its own data folder and its own log.

`DANQING_ENGINE_COMMAND` in the environment puts another engine program in the real one's place.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from danqing.library.index import MINI

READY_SECONDS = 120
"""The machine may be busy; how long starting up takes is measured by the benchmarks, not here."""


@dataclass
class Server:
    """A running `danqing serve`."""

    base_url: str
    data: Path
    process: subprocess.Popen[bytes]
    log: Path
    port_seconds: float
    """From the start of the process to an open port."""
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.base_url.rsplit(":", 1)[1])

    @property
    def password(self) -> str:
        """The administrator's password, as the file in the data folder gives it."""
        return (self.data / "secrets" / "password").read_text("utf-8").strip()

    def client(self, **more: object) -> httpx.Client:
        """A client that knows nobody's password."""
        return httpx.Client(base_url=self.base_url, timeout=60, trust_env=False, **more)  # type: ignore[arg-type]

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def kill(self) -> None:
        """kill -9 of the web process, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode


def give_model(data: Path) -> None:
    """A checkpoint to draw with, where the package has no miniature model yet: small and random."""
    if MINI.is_file():
        return
    code = "import sys, pathlib; from tests.engine import tiny; tiny.write(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(data)], check=True, cwd=Path(__file__).parent.parent)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(
    data: Path, *arguments: str, environment: dict[str, str] | None = None, port: int = 0, ready: bool = True
) -> Server:
    """Start `danqing serve`; wait for its port, and where `ready` for a 200 of /readyz."""
    port = port or free_port()
    data.mkdir(parents=True, exist_ok=True)
    give_model(data)
    log = data.parent / f"{data.name}.log"
    command = [sys.executable, "-m", "danqing.cli", "serve", "--port", str(port), "--data", str(data), *arguments]
    start = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
    wait_for_port(port, process, log)
    server = Server(
        f"http://127.0.0.1:{port}", data, process, log, time.monotonic() - start, arguments, environment or {}
    )
    if ready:
        wait_until_ready(server)
    return server


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.02)
        else:
            return
    process.kill()
    raise AssertionError(f"the port did not open; exit code {process.poll()}\n{log.read_text('utf-8', 'replace')}")


def wait_until_ready(server: Server, seconds: float = READY_SECONDS) -> None:
    end = time.monotonic() + seconds
    answer = "nothing"
    with server.client() as client:
        while time.monotonic() < end and server.process.poll() is None:
            try:
                response = client.get("/readyz")
            except httpx.TransportError as error:
                answer = repr(error)
            else:
                if response.status_code == 200:
                    return
                answer = response.text
            time.sleep(0.1)
    server.kill()
    raise AssertionError(f"not ready: {answer}\n{server.log_text()[-5000:]}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server on loopback that asks for no login."""
    limits = {"DANQING_LIMIT_BODY_MB": "16"}
    running = start_server(tmp_path_factory.mktemp("server") / "data", environment=limits)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def login_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ready server that asks for a login (user `admin`, password `login_server.password`); a program that only speaks the
    engine's protocol draws for it."""
    engine = {"DANQING_ENGINE_COMMAND": f"{sys.executable} {Path(__file__).parent / 'jobs' / 'fake_engine.py'}"}
    running = start_server(tmp_path_factory.mktemp("login") / "data", "--users", "login", environment=engine)
    yield running
    running.stop()
