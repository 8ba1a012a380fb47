"""What one open page remembers on the server: its jobs, and which handler is watching them."""

from __future__ import annotations

from dataclasses import dataclass, field

KEPT = 200
"""Jobs that a page remembers; older ones are final long since."""


@dataclass
class Session:
    """Mutable on purpose: a handler that watches sees at once what another one has submitted."""

    jobs: list[str] = field(default_factory=list)
    """Ids of the jobs that this page follows, oldest first."""
    current: str = ""
    """The job on the stage."""
    watch: int = 0
    """Number of the newest watcher; older ones end when they see that it has changed."""

    def add(self, job_id: str) -> None:
        if job_id not in self.jobs:
            self.jobs.append(job_id)
        del self.jobs[:-KEPT]

    def begin_watch(self) -> int:
        """A new watcher takes over; returns its number."""
        self.watch += 1
        return self.watch
