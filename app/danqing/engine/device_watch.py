"""How long forwards take on the device, without waiting for it.

A GPU works off what the host has told it to do; the host's clock says only how long telling took. Events on the device tell the
truth, later. The host is kept a few forwards ahead and no further: whoever comes anew would wait behind all that is queued.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

AHEAD = 2
"""Forwards that may be queued: one that runs and one behind it, so that the device never waits for the host."""


class Watch(Protocol):
    """Measures forwards; `what` comes back with the seconds."""

    def forward(self, what: Any) -> contextlib.AbstractContextManager[None]:
        """Within the context a forward is started. One that raises is not measured."""
        ...

    def finished(self) -> list[tuple[Any, float]]:
        """(what, seconds) of forwards that have ended since the last call, in order."""
        ...


class HostWatch:
    """Of a device that computes while the host waits: a CPU."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ended: list[tuple[Any, float]] = []

    @contextlib.contextmanager
    def forward(self, what: Any) -> Iterator[None]:
        began = self._clock()
        yield
        self._ended.append((what, self._clock() - began))

    def finished(self) -> list[tuple[Any, float]]:
        ended, self._ended = self._ended, []
        return ended


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


class DeviceWatch:
    """Of a GPU.

    Args:
        event: makes an event of the device that takes the time.
        ahead: see `AHEAD`.
    """

    def __init__(self, event: Callable[[], Any] | None = None, ahead: int = AHEAD) -> None:
        self._event = event or _event
        self._ahead = ahead
        self._queued: deque[tuple[Any, Any, Any]] = deque()

    @contextlib.contextmanager
    def forward(self, what: Any) -> Iterator[None]:
        unfinished = [end for _, _, end in self._queued if not end.query()]
        if len(unfinished) >= self._ahead:
            unfinished[-self._ahead].synchronize()
        start, end = self._event(), self._event()
        start.record()
        yield
        end.record()
        self._queued.append((what, start, end))

    def finished(self) -> list[tuple[Any, float]]:
        found = []
        while self._queued and self._queued[0][2].query():
            what, start, end = self._queued.popleft()
            found.append((what, start.elapsed_time(end) / 1000))
        return found


def watch_of(device: torch.device, clock: Callable[[], float] = time.monotonic) -> Watch:
    """The watch for a device."""
    return DeviceWatch() if device.type == "cuda" else HostWatch(clock)
