"""The engine's process as systemd runs it: it stays when the web process goes, and ends when its thread has died."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from danqing.engine.main import EngineThread, Server
from danqing.engine.settings import ROWS
from danqing.request import LIMITS
from danqing.settings import Settings


class Broken(EngineThread):
    """Dies while it starts up, as one whose torch cannot be imported."""

    def run(self) -> None:
        return


class Waiting(EngineThread):
    """Works, and draws nothing."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.done = threading.Event()

    def run(self) -> None:
        self._warming = False
        while not self.done.wait(0.01):
            self._turns += 1


async def served(kind: type[EngineThread], folder: Path) -> Server:
    server = Server(folder / "engine.sock", keep=True)
    server.thread = kind(folder, Settings((*LIMITS, *ROWS)), server.emit)
    server.thread.start()
    return server


def test_a_dead_thread_ends_the_process(tmp_path: Path) -> None:
    async def run() -> None:
        await asyncio.wait_for((await served(Broken, tmp_path)).run(), 30)

    asyncio.run(run())
    assert not (tmp_path / "engine.sock").exists()


def test_a_kept_engine_outlives_the_web_process(tmp_path: Path) -> None:
    async def run() -> None:
        server = await served(Waiting, tmp_path)
        running = asyncio.create_task(server.run())
        for _ in range(2):
            reader, writer = await connected(tmp_path / "engine.sock")
            writer.close()
            assert await reader.read() == b""
        assert not running.done()
        assert isinstance(server.thread, Waiting)
        server.thread.done.set()
        await asyncio.wait_for(running, 30)

    asyncio.run(run())


async def connected(socket: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(1000):
        try:
            return await asyncio.open_unix_connection(socket)
        except OSError:
            await asyncio.sleep(0.01)
    pytest.fail("nobody listens")


def test_the_pulse_of_a_thread(tmp_path: Path) -> None:
    thread = Waiting(tmp_path, Settings((*LIMITS, *ROWS)), lambda _: None)
    assert thread.pulse() is None
    thread.start()
    first = thread.pulse()
    while (later := thread.pulse()) == first:
        pass
    thread.done.set()
    thread.join()
    assert later != first
    assert thread.pulse() is None
