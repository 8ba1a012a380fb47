"""What systemd hears: ready, and signs of life for as long as there is life."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from danqing import notify


@pytest.fixture
def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def heard(ear: socket.socket) -> list[bytes]:
    said = []
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(ear.recv(100))
    return said


async def beats(pulse: Callable[[], object], ear: socket.socket, wanted: int, turns: int) -> int:
    """Signs of life heard until there are `wanted` of them, or the pulse was felt `turns` times."""
    felt, count = itertools.count(1), 0
    enough = asyncio.Event()

    def counted() -> object:
        if next(felt) > turns:
            enough.set()
        return pulse()

    beating = asyncio.create_task(notify.beat(counted))
    while count < wanted and not enough.is_set():
        await asyncio.sleep(0.005)
        count += len(heard(ear))
    beating.cancel()
    return count


def test_ready_is_told(ear: socket.socket) -> None:
    assert notify.notify("READY=1")
    assert heard(ear) == [b"READY=1"]


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify("READY=1")


def test_a_socket_that_is_gone_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify.notify("READY=1")


@pytest.mark.parametrize(
    ("process", "microseconds", "seconds"),
    [("self", "3000000", 3.0), ("", "3000000", 3.0), ("1", "3000000", None), ("self", "0", None), ("self", "", None)],
)
def test_the_time_allowed(
    monkeypatch: pytest.MonkeyPatch, process: str, microseconds: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "self" else process)
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    assert notify.watchdog_seconds() == seconds


def test_life_is_told_and_a_stopped_pulse_is_not(ear: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "15000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert asyncio.run(beats(itertools.count().__next__, ear, wanted=3, turns=10_000)) >= 3
    assert asyncio.run(beats(lambda: "the same", ear, wanted=2, turns=20)) == 1
