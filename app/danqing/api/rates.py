"""How many requests somebody may send: a bucket of tokens for each login, or for each address without one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from danqing.errors import DanqingError

BURST_SECONDS = 20.0
"""So many seconds' worth may come at once: a page asks for a hundred pictures when it opens."""

LIMIT = 10_000
"""Visitors remembered; the ones longest quiet go first, and begin with a full bucket again."""


class Rates:
    """Safe to call from several threads.

    Args:
        a_second: requests that one visitor may send in the long run; 0 is no bound.
        clock: seconds that only grow.
    """

    def __init__(self, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = a_second, clock
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, visitor: str) -> None:
        """Count a request.

        Raises:
            DanqingError: `too_many_requests`, with the seconds until there is room.
        """
        if self._rate <= 0:
            return
        most = self._rate * BURST_SECONDS
        with self._lock:
            now = self._clock()
            left, then = self._rows.pop(visitor, (most, now))
            left = min(most, left + (now - then) * self._rate)
            self._rows[visitor] = (left - 1 if left >= 1 else left, now)
            while len(self._rows) > LIMIT:
                self._rows.popitem(last=False)
        if left < 1:
            raise DanqingError("too_many_requests", seconds=int((1 - left) / self._rate) + 1)
