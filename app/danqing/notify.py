"""What systemd is told: that a service is ready, and that it still works (sd_notify(3), sd_watchdog_enabled(3)).

Does nothing where no systemd asks. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

BEATS = 3
"""Signs of life within the time that systemd allows."""


def notify(state: str) -> bool:
    """Send `state` ("READY=1", "WATCHDOG=1") to systemd; whether it was sent."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.connect("\0" + address[1:] if address.startswith("@") else address)
        out.sendall(state.encode())
        return True
    return False


def watchdog_seconds() -> float | None:
    """How long systemd waits for a sign of life of this process; None when it does not."""
    process, microseconds = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if (process and process != str(os.getpid())) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6


async def beat(pulse: Callable[[], object]) -> None:
    """Tell systemd that this process works, for as long as `pulse` answers something new each time; ends where nobody asks.

    Runs in the event loop, so that a loop that hangs is found out as well.
    """
    seconds = watchdog_seconds()
    if seconds is None:
        return
    last: object = None
    while True:
        now = pulse()
        if now != last:
            notify("WATCHDOG=1")
        last = now
        await asyncio.sleep(seconds / BEATS)
