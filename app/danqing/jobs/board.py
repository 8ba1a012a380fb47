"""What only memory knows of the jobs that are not over: progress, previews, places in the queue, and who watches."""

from __future__ import annotations

import asyncio
import bisect
from dataclasses import dataclass, field, replace
from itertools import accumulate

from danqing.errors import DanqingError
from danqing.jobs.model import Job, JobState, JobView
from danqing.jobs.speed import Speed, work_of
from danqing.jobs.store import StoredJob


@dataclass(eq=False, slots=True)
class Live:
    """A job that is queued or running. Changed in the event loop only."""

    stored: StoredJob
    job: Job
    step: int = 0
    steps: int = 0
    image: int = 0
    preview: bytes | None = None
    preview_id: int = 0
    submissions: int = 0
    """Times that the engine got it from this process."""
    token: str = ""
    """Its name at the engine, another one for each submission, so that late events of an earlier one are not mistaken."""
    interrupting: bool = False
    ending: bool = False
    """Somebody is bringing it to its end; nobody else may."""
    expected: int | None = None
    """Pictures that the engine has made, once it has said that it is done."""
    trouble: DanqingError | None = None
    """What kept a picture from being stored."""
    attempts: int = 0
    disk_tries: int = 0
    not_before: float = 0.0
    storing: set[asyncio.Task[None]] = field(default_factory=set)
    watchers: set[asyncio.Event] = field(default_factory=set)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def work_left(self) -> float:
        left = 1 - self.step / self.steps if self.steps else 1.0
        return max(0.0, left) * work_of(self.job.request)

    def notify(self) -> None:
        for event in tuple(self.watchers):
            event.set()

    def restart(self) -> None:
        """Nothing of its drawing counts any more."""
        self.step = self.steps = self.image = 0
        self.preview, self.token, self.ending, self.trouble, self.expected = None, "", False, None, None


class Board:
    """The jobs that are not over, by id, with the queue's order."""

    def __init__(self) -> None:
        self.speed = Speed()
        self._jobs: dict[str, Live] = {}
        self._queue: list[tuple[int, str]] = []
        self.running: dict[str, Live] = {}
        """By token: what the engine works on."""
        self._work_before: list[float] | None = None
        """Prefix sums of the queue's work; None when the queue has changed since."""

    def add(self, stored: StoredJob) -> Live:
        """A queued job takes its place."""
        job = stored.job
        live = Live(stored, job, attempts=job.attempts, disk_tries=stored.disk_tries, not_before=stored.not_before)
        live.interrupting = job.interrupted
        self._jobs[job.id] = live
        self._enqueue(live)
        return live

    def find(self, job_id: str) -> Live | None:
        return self._jobs.get(job_id)

    def jobs(self) -> list[Live]:
        return list(self._jobs.values())

    def queued(self) -> list[Live]:
        """In the order of the queue."""
        found = (self._jobs.get(job_id) for _, job_id in tuple(self._queue))
        return [live for live in found if live is not None]

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def start(self, live: Live, token: str, now: float) -> None:
        """A queued job begins to run."""
        self._unqueue(live)
        live.token = token
        live.submissions += 1
        live.job = replace(live.job, state=JobState.RUNNING, started=live.job.started or now)
        self.running[token] = live
        self.notify_queue(live)

    def requeue(self, live: Live) -> None:
        """A running job goes back to its old place."""
        self.running.pop(live.token, None)
        live.restart()
        live.job = replace(live.job, state=JobState.QUEUED, attempts=live.attempts)
        self._enqueue(live)
        self.notify_queue(live)

    def remove(self, live: Live) -> None:
        """The job is over."""
        self._unqueue(live)
        self.running.pop(live.token, None)
        self._jobs.pop(live.job.id, None)
        live.over.set()
        if not self.running:
            self.speed.idle()
        self.notify_queue(live)

    def _enqueue(self, live: Live) -> None:
        bisect.insort(self._queue, (live.stored.seq, live.job.id))
        self._work_before = None

    def _unqueue(self, live: Live) -> None:
        place = self._place(live)
        if place < len(self._queue) and self._queue[place][1] == live.job.id:
            del self._queue[place]
            self._work_before = None

    def notify_queue(self, live: Live) -> None:
        """Places have changed: for `live` and for all that wait."""
        live.notify()
        for other in self.queued():
            other.notify()

    def view(self, live: Live) -> JobView:
        """How the job stands now."""
        queued = live.job.state is JobState.QUEUED
        return JobView(
            job=live.job,
            position=self._position(live) if queued else 0,
            step=live.step,
            steps=live.steps,
            image=live.image,
            images=live.job.request.image_count,
            eta=self._eta_queued(live) if queued else self._eta_running(live),
            preview=live.preview,
            preview_id=live.preview_id,
        )

    def _place(self, live: Live) -> int:
        return bisect.bisect_left(self._queue, (live.stored.seq, live.job.id))

    def _position(self, live: Live) -> int:
        return len(self.running) + self._place(live)

    def _eta_running(self, live: Live) -> float | None:
        return self.speed.eta_running(live.work_left, [other.work_left for other in tuple(self.running.values())])

    def _eta_queued(self, live: Live) -> float | None:
        sums = self._work_before
        if sums is None:
            works = (work_of(other.job.request) for other in self.queued())
            sums = self._work_before = list(accumulate(works, initial=0.0))
        before = sums[min(self._place(live), len(sums) - 1)]
        running = sum(other.work_left for other in tuple(self.running.values()))
        return self.speed.eta_queued(live.work_left, before + running)
