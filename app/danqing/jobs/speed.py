"""How fast the engine works, and how long a job will take. Pure arithmetic on numbers that others hand in."""

from __future__ import annotations

from collections.abc import Sequence

from danqing.request import GenerateRequest

WINDOW = 0.3
"""Seconds; shorter samples are mostly noise of the batch's rhythm."""

WEIGHT = 0.3
"""Of the newest sample in the moving average."""


def work_of(request: GenerateRequest) -> float:
    """A job's model work in steps of one 512x512 picture."""
    return request.steps * request.image_count * (request.width * request.height) / (512 * 512)


class Speed:
    """Moving average of the engine's seconds per unit of work, over all jobs together, idle time left out."""

    def __init__(self) -> None:
        self.seconds_per_work: float | None = None
        self._since: float | None = None
        self._work = 0.0

    def idle(self) -> None:
        """The engine has nothing to do: time that passes from here on says nothing of its speed."""
        self._since, self._work = None, 0.0

    def advance(self, work: float, now: float) -> None:
        """`work` was done by `now` (seconds of a monotonic clock)."""
        if self._since is None:
            self._since = now
            return
        self._work += work
        elapsed = now - self._since
        if elapsed < WINDOW or self._work <= 0:
            return
        sample = elapsed / self._work
        old = self.seconds_per_work
        self.seconds_per_work = sample if old is None else old + WEIGHT * (sample - old)
        self._since, self._work = now, 0.0

    def eta_running(self, own: float, running: Sequence[float]) -> float | None:
        """Seconds left of a job with `own` work left among `running` (its own included), which share the engine evenly."""
        if self.seconds_per_work is None:
            return None
        return self.seconds_per_work * sum(min(own, other) for other in running)

    def eta_queued(self, own: float, ahead: float) -> float | None:
        """Seconds left of a job that begins when `ahead` work is done."""
        return None if self.seconds_per_work is None else self.seconds_per_work * (own + ahead)
