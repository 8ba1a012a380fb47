"""Connections before they have asked for anything: how many there may be, and for how long.

uvicorn waits for ever for the head of a request, so that somebody who only opens connections, or sends a byte now and then,
takes the process's descriptors until nobody else is let in (Slowloris). Behind nginx, nginx does this. Standard library and
uvicorn only.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""From a connection, or the first byte of a further request on it, to the end of the request's head."""

DESCRIPTORS = 65536
"""Of this process, where it may have so many: shells begin with 1024, and each open page holds a stream."""


class Protocol(H11Protocol):
    """uvicorn's, which lets go of whoever does not say in time what they want."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._calm()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def more_descriptors() -> None:
    """Raise this process's own limit of open files towards what the system allows it; what systemd sets and guards stays."""
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid the very question
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
