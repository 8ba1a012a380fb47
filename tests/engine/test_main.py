"""The engine's process as systemd runs it: it stays when the web process goes, and ends when its thread has died."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from danqing.engine.main import EngineThread, Server, Telling, step_back
from danqing.engine.protocol import Message
from danqing.engine.settings import ROWS, allocator_words
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


def test_a_kept_engine_that_is_told_to_restart_ends(tmp_path: Path) -> None:
    async def run() -> None:
        server = await served(Waiting, tmp_path)
        running = asyncio.create_task(server.run())
        _, writer = await connected(tmp_path / "engine.sock")
        writer.write(Message({"op": "restart"}).encode())
        await asyncio.wait_for(running, 30)
        assert isinstance(server.thread, Waiting)
        server.thread.done.set()

    asyncio.run(run())


def test_what_the_engine_logs_reaches_the_web_process(tmp_path: Path) -> None:
    heard: list[Message] = []
    teller = Telling(heard.append)
    teller.emit(logging.LogRecord("danqing.engine", logging.WARNING, __file__, 1, "memory is %s", ("short",), None))
    assert heard[0].body == {"event": "log", "level": 30, "text": "warning danqing.engine: memory is short"}


def test_drawing_steps_back_and_what_listens_does_not() -> None:
    """The thread that draws and those that it starts."""
    base, heard = os.getpriority(os.PRIO_PROCESS, 0), list[int]()

    def note() -> None:
        heard.append(os.getpriority(os.PRIO_PROCESS, 0))

    def draw() -> None:
        step_back(3)
        step_back(0)
        note()
        child = threading.Thread(target=note)
        child.start()
        child.join()

    drawing = threading.Thread(target=draw)
    drawing.start()
    drawing.join()
    assert heard == [min(19, base + 3)] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == base


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ""),
        ({"alloc_max_split_mb": 5}, "max_split_size_mb:21"),
        ({"alloc_expandable": True, "alloc_collect_at": 1.0}, "expandable_segments:True"),
        ({"alloc_collect_at": 0.85}, "garbage_collection_threshold:0.85"),
    ],
)
def test_the_allocator_is_told_in_torchs_words(values: dict[str, object], words: str) -> None:
    assert allocator_words(Settings(ROWS, values)) == words


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


GAPS = """
import ctypes, sys, time
from danqing.engine.main import give_back_memory

def megabytes():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) >> 10

libc, size = ctypes.CDLL(None), 64 * 1024
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before, blocks = megabytes(), [libc.malloc(size) for _ in range(3200)]
for block in blocks:
    ctypes.memset(block, 1, size)
for number, block in enumerate(blocks):
    if number % 16:
        libc.free(block)
kept = megabytes() - before
if sys.argv[1] == "trim":
    give_back_memory(0.05)
    for _ in range(200):
        time.sleep(0.05)
        if megabytes() - before < kept / 2:
            break
print(megabytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_gaps_between_blocks_are_given_back() -> None:
    """200 MB of which one block in sixteen is still in use."""
    kept, trimmed = (
        int(subprocess.run([sys.executable, "-c", GAPS, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "trim")
    )
    assert kept > 150
    assert trimmed < 60
