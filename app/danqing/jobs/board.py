"""What only memory knows of the jobs that are not over: progress, previews, places in the queue, and who watches."""

from __future__ import annotations

import asyncio
import bisect
import heapq
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace

from danqing.errors import DanqingError
from danqing.jobs.fairness import Shares
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
    priority: int = 0
    """Jobs of a higher one go first, whoever owns them."""
    rank: int = 0
    """Its place among its owner's jobs of the same priority."""
    paused: bool = False
    """A training that its owner has told to wait."""
    loss: float | None = None
    seen: int = 0
    """Rows of a training's record that have been read."""
    storing: set[asyncio.Task[None]] = field(default_factory=set)
    watchers: set[asyncio.Event] = field(default_factory=set)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def owner(self) -> str:
        return self.job.owner

    @property
    def trains(self) -> bool:
        return self.job.request.kind == "train"

    @property
    def key(self) -> tuple[int, int, int]:
        """The order of one owner's jobs."""
        return -self.priority, self.rank, self.stored.seq

    @property
    def work(self) -> float:
        return work_of(self.job.request)

    @property
    def work_left(self) -> float:
        left = 1 - self.step / self.steps if self.steps else 1.0
        return max(0.0, left) * self.work

    def note(self, note: DanqingError) -> None:
        """Remember what the owner is to know, once; a job that is drawn again says it again."""
        if all(note.as_dict() != other.as_dict() for other in self.job.notes):
            self.job = replace(self.job, notes=(*self.job.notes, note))
            self.notify()

    def notify(self) -> None:
        for event in tuple(self.watchers):
            event.set()

    async def views(self, view: Callable[[], JobView]) -> AsyncGenerator[JobView, None]:
        """`view` at once, then at every change (several may come as one), the last one when the job is over."""
        event = asyncio.Event()
        self.watchers.add(event)
        try:
            while True:
                event.clear()
                now = view()
                yield now
                if now.job.state.final:
                    return
                await event.wait()
        finally:
            self.watchers.discard(event)

    def restart(self) -> None:
        """Nothing of its drawing counts any more."""
        self.step = self.steps = self.image = 0
        self.preview, self.token, self.ending, self.trouble, self.expected = None, "", False, None, None


@dataclass(frozen=True, slots=True)
class _Order:
    """The queue as it would be handed out if nothing changed."""

    version: int
    lives: tuple[Live, ...]
    places: dict[str, int]
    work_before: tuple[float, ...]


class Board:
    """The jobs that are not over, by id, with the queue's order.

    Args:
        weights: of owners, see `fairness.Shares`.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.speed = Speed()
        self._shares = Shares(weights)
        self._jobs: dict[str, Live] = {}
        self._queues: dict[str, list[Live]] = {}
        """By owner, each in the order of `Live.key`."""
        self.running: dict[str, Live] = {}
        """By token: what the engine works on."""
        self._version = 0
        self._order = _Order(0, (), {}, ())

    def weigh(self, weight_of: Callable[[str], float | None]) -> None:
        """Ask for owners' shares of the work; None is the usual one. Called often: it must answer from memory."""
        self._shares.weight_of = weight_of

    def add(self, stored: StoredJob) -> Live:
        """A queued job takes its place."""
        job = stored.job
        live = Live(stored, job, attempts=job.attempts, disk_tries=stored.disk_tries, not_before=stored.not_before)
        live.interrupting, live.priority, live.rank = job.interrupted, stored.priority, stored.rank
        self._jobs[job.id] = live
        self._enqueue(live)
        return live

    def find(self, job_id: str) -> Live | None:
        return self._jobs.get(job_id)

    def jobs(self) -> list[Live]:
        return list(self._jobs.values())

    def queued(self) -> list[Live]:
        """In the order of the queue."""
        return list(self._ordered().lives)

    def queued_of(self, owner: str) -> list[Live]:
        """One owner's waiting jobs in their order."""
        return list(self._queues.get(owner, ()))

    def count_of(self, owner: str) -> int:
        """Jobs of an owner that wait or run."""
        return sum(live.owner == owner for live in self.jobs())

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in list(self._queues.values()))

    def next(self, now: float, *, newcomers: bool = False) -> Live | None:
        """The job to begin; with `newcomers` only of owners who have none running."""
        busy = {live.owner for live in self.running.values()} if newcomers else set()
        heads = (
            next((live for live in queue if live.not_before <= now), None)
            for owner, queue in self._queues.items()
            if owner not in busy
        )
        return min((live for live in heads if live), key=self._turn, default=None)

    def _turn(self, live: Live) -> tuple[int, float, int]:
        return -live.priority, self._shares.served(live.owner), live.stored.seq

    def start(self, live: Live, token: str, now: float) -> None:
        """A queued job begins to run."""
        self._shares.begin(live.owner, live.work)
        self._unqueue(live)
        live.token = token
        live.submissions += 1
        live.job = replace(live.job, state=JobState.RUNNING, started=live.job.started or now)
        self.running[token] = live
        self.notify_queue(live)

    def requeue(self, live: Live) -> None:
        """A running job goes back to its old place."""
        self.running.pop(live.token, None)
        self._shares.give_back(live.owner, live.work)
        live.restart()
        live.job = replace(live.job, state=JobState.QUEUED, attempts=live.attempts)
        self._enqueue(live)
        self.notify_queue(live)

    def remove(self, live: Live, *, undone: bool = False) -> None:
        """The job is over; `undone`: not all of its work was done."""
        self._unqueue(live)
        if self.running.pop(live.token, None) and undone:
            self._shares.give_back(live.owner, live.work_left)
            self._version += 1
        self._jobs.pop(live.job.id, None)
        live.over.set()
        if not self.running:
            self.speed.idle()
        self.notify_queue(live)

    def reordered(self, live: Live, place: int) -> list[tuple[Live, int]]:
        """Whose rank changes, and to what, when a waiting job moves to `place` among its owner's of the same priority."""
        lives = [other for other in self.queued_of(live.owner) if other.priority == live.priority]
        ranks = sorted(other.rank for other in lives)
        lives.remove(live)
        lives.insert(min(max(place, 0), len(lives)), live)
        return [(one, rank) for one, rank in zip(lives, ranks, strict=True) if one.rank != rank]

    def move(self, live: Live, *, priority: int | None = None, rank: int | None = None) -> None:
        """A waiting job gets another place."""
        queued = self._unqueue(live)
        live.priority = live.priority if priority is None else priority
        live.rank = live.rank if rank is None else rank
        if queued:
            self._enqueue(live)

    def _enqueue(self, live: Live) -> None:
        bisect.insort(self._queues.setdefault(live.owner, []), live, key=lambda other: other.key)
        self._version += 1

    def _unqueue(self, live: Live) -> bool:
        queue = self._queues.get(live.owner, [])
        if live not in queue:
            return False
        queue.remove(live)
        if not queue:
            del self._queues[live.owner]
        self._version += 1
        return True

    def notify_queue(self, live: Live) -> None:
        """Places have changed: for `live` and for all that wait."""
        live.notify()
        for queue in self._queues.values():
            for other in queue:
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
            paused=live.paused,
            loss=live.loss,
        )

    def _ordered(self) -> _Order:
        # Asked from any thread: an order that was made while the queue changed is of an old version and is made again.
        if self._order.version != self._version:
            version = self._version
            self._order = self._made(version)
        return self._order

    def _made(self, version: int) -> _Order:
        """Plays the handing out forward."""
        queues = {owner: list(queue) for owner, queue in list(self._queues.items())}
        served = {owner: self._shares.served(owner) for owner in queues}
        heads = [(*self._turn(queue[0]), owner, 0) for owner, queue in queues.items() if queue]
        heapq.heapify(heads)
        lives: list[Live] = []
        before = [0.0]
        while heads:
            *_, owner, place = heapq.heappop(heads)
            live = queues[owner][place]
            lives.append(live)
            before.append(before[-1] + live.work)
            served[owner] += self._shares.cost(owner, live.work)
            if place + 1 < len(queues[owner]):
                later = queues[owner][place + 1]
                heapq.heappush(heads, (-later.priority, served[owner], later.stored.seq, owner, place + 1))
        places = {live.job.id: place for place, live in enumerate(lives)}
        return _Order(version, tuple(lives), places, tuple(before))

    def _position(self, live: Live) -> int:
        return len(self.running) + self._ordered().places.get(live.job.id, 0)

    def _eta_running(self, live: Live) -> float | None:
        return self.speed.eta_running(live.work_left, [other.work_left for other in tuple(self.running.values())])

    def _eta_queued(self, live: Live) -> float | None:
        order = self._ordered()
        before = order.work_before[order.places.get(live.job.id, 0)] if order.lives else 0.0
        running = sum(other.work_left for other in tuple(self.running.values()))
        return self.speed.eta_queued(live.work_left, before + running)
