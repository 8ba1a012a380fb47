"""Task ids: the names that clients of the WebUI give to their jobs, or that are made for them."""

from __future__ import annotations

import secrets
import string
import threading
from collections import OrderedDict

LIMIT = 10_000
"""Tasks remembered; the oldest go first."""

NAME_LIMIT = 200
LETTERS = string.ascii_uppercase + string.digits


class Tasks:
    """Job ids by owner and task id. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[tuple[str, str], str] = OrderedDict()

    def add(self, owner: str, task: str | None, kind: str, job: str) -> str:
        """Remember which job a task is; `task` None or "" gets a name as the WebUI makes it."""
        name = task or f"task({kind}-{''.join(secrets.choice(LETTERS) for _ in range(7))})"
        with self._lock:
            self._jobs[owner, name[:NAME_LIMIT]] = job
            while len(self._jobs) > LIMIT:
                self._jobs.popitem(last=False)
        return name

    def job(self, owner: str, task: str) -> str | None:
        """The job of a task, None when there is none of that owner."""
        with self._lock:
            return self._jobs.get((owner, task[:NAME_LIMIT]))

    def names(self, owner: str) -> dict[str, str]:
        """The owner's task ids by job id."""
        with self._lock:
            return {job: name for (whose, name), job in self._jobs.items() if whose == owner}
