"""What the queue asks of the users: how much each may have. Answers from memory, at most some seconds old."""

from __future__ import annotations

import time
from collections.abc import Callable

from danqing.api.users import Users
from danqing.jobs.admission import OwnerLimits

SECONDS = 2.0


class UserLimits:
    """Limits by owner. Safe to call from several threads: each answer is replaced whole."""

    def __init__(self, users: Users, clock: Callable[[], float] = time.monotonic) -> None:
        self._users, self._clock = users, clock
        self._known: dict[str, OwnerLimits] = {}
        self._until = 0.0

    def __call__(self, owner: str) -> OwnerLimits:
        """Of somebody who is no user: none of their own."""
        now = self._clock()
        if now >= self._until:
            self._until = now + SECONDS
            self._known = {user.name: OwnerLimits(user.jobs, user.images, user.weight) for user in self._users.all()}
        return self._known.get(owner, OwnerLimits())
