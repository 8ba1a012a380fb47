"""How long jobs waited and were drawn, and what they failed of: what /metrics tells of jobs that are over. Pure counting."""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass, field

from danqing.errors import DanqingError
from danqing.jobs.model import Job

SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1800.0, 3600.0)
"""Upper bounds of the buckets, both phases."""


@dataclass(slots=True)
class Times:
    """A histogram. `counts`: of each bucket, those above the last bound at the end."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Bound and number of values that do not exceed it, as Prometheus has them; the last bound is +Inf."""
        so_far, found = 0, []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


@dataclass(slots=True)
class Tally:
    """Of one process, since its start."""

    phases: dict[str, Times] = field(default_factory=lambda: {"waiting": Times(), "drawing": Times()})
    errors: Counter[str] = field(default_factory=Counter)
    """By error code."""

    def over(self, job: Job, now: float, error: DanqingError | None) -> None:
        """A job has come to its end at `now`, seconds since 1970. A clock that was set back counts as no time."""
        if job.started is not None:
            self.phases["waiting"].add(max(0.0, job.started - job.created))
            self.phases["drawing"].add(max(0.0, now - job.started))
        if error is not None:
            self.errors[error.code] += 1
