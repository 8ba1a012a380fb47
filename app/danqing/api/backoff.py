"""Waits after failed logins, by address: some are free, then one second, two, four ... up to a limit."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from danqing.errors import DanqingError

LIMIT = 10_000
"""Addresses remembered; the ones longest quiet go first."""


class Backoff:
    """Failures by address. Safe to call from several threads.

    Args:
        free: failures before an address has to wait.
        most: longest wait in seconds.
        clock: seconds that only grow.
    """

    def __init__(self, free: int, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.free, self.most, self._clock = free, most, clock
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuse an address that has to wait.

        Raises:
            DanqingError: `too_many_logins`, with the seconds left.
        """
        _, left = self.failures(address)
        if left:
            raise DanqingError("too_many_logins", seconds=left)

    def failures(self, address: str) -> tuple[int, int]:
        """How many there were, and the seconds that the address has to wait."""
        with self._lock:
            count, until = self._rows.get(network(address), (0, 0.0))
        left = until - self._clock()
        return count, int(left) + 1 if left > 0 else 0

    def failed(self, address: str) -> None:
        """Count a failure. Counted before the password is checked, so that many at once gain nothing."""
        key = network(address)
        with self._lock:
            count = self._rows.pop(key, (0, 0.0))[0] + 1
            wait = 0.0 if count <= self.free else min(self.most, 2.0 ** min(count - self.free - 1, 30))
            self._rows[key] = (count, self._clock() + wait)
            while len(self._rows) > LIMIT:
                self._rows.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget the failures of an address."""
        with self._lock:
            self._rows.pop(network(address), None)


def network(address: str) -> str:
    """What counts as one visitor: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address[:100]
    if parsed.version == 6:
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
