"""The engine: drives the plans of all jobs, a shared forward pass at a time.

It owns the device and knows neither users nor HTTP. `step` is called in a loop by one thread; `submit`, `interrupt` and
`cancel` may be called between steps only (`main` brings them through a queue).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

from danqing.engine import memory, preview
from danqing.engine.calls import Call, Denoise, Encode, Finished, Load, Plan, Together, Track, Work
from danqing.engine.device_watch import Watch, watch_of
from danqing.engine.live import Extent, LiveJob, Picture, Start, WorkFuture, work
from danqing.engine.parts import parts_of
from danqing.engine.protocol import ImageFacts, Message
from danqing.engine.runner import Runner
from danqing.engine.scheduler import Kind, Limits, Part, Scheduler
from danqing.errors import DanqingError
from danqing.request import GenerateRequest

IDLE_SECONDS = 0.005
"""Between two looks while another thread reads a checkpoint: it needs the interpreter too."""

PROGRESS_SECONDS = 0.1
"""Between two progress messages of one job."""

Emit = Callable[[Message], None]
MakePlan = Callable[[GenerateRequest, int, Track], Plan]


Measure = Callable[[GenerateRequest], Extent]
Seen = Callable[[Any, ImageFacts], tuple[Any, ImageFacts]]


class Models(Protocol):
    """Where checkpoints come from: `store.ModelStore`."""

    def acquire(self, call: Load) -> Future[Any]: ...

    def release(self, model: Any) -> None: ...


class Engine:
    """See the module. `emit` is called with every message for the web process; `free` says how many bytes a picture may take.

    `seen` looks at every finished picture and may put another in its place; there are no previews then, which nobody has seen.
    """

    def __init__(
        self,
        runner: Runner,
        models: Models,
        emit: Emit,
        *,
        make_plan: MakePlan,
        measure: Measure,
        limits: Limits,
        pictures: int = 64,
        preview_seconds: float = 0.4,
        free: Callable[[], int] = lambda: 2**62,
        seen: Seen | None = None,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch | None = None,
    ) -> None:
        self._runner, self._models, self._emit = runner, models, emit
        self._make_plan, self._measure = make_plan, measure
        self._free, self._seen = free, seen
        self._scheduler = Scheduler(limits)
        self._pictures, self._preview_seconds, self._clock = pictures, preview_seconds, clock
        self._watch = watch or watch_of(runner.device, clock)
        self._jobs: dict[str, LiveJob] = {}
        self._loading: list[Picture] = []
        self._order = 0
        names = ("forwards", "rows", "forward_seconds", "images", "out_of_memory")
        self.counters: dict[str, float] = dict.fromkeys(names, 0)

    # -- from outside, between steps --

    def submit(self, job_id: str, request: GenerateRequest, share: str = "") -> None:
        """Take a job. Its pictures start at the next step. Jobs of one `share` share one turn among all."""
        if job_id in self._jobs:
            return
        try:
            extent = self._measure(request)
        except DanqingError as error:
            self._emit(Message({"event": "failed", "job": job_id, "error": error.as_dict()}))
            return
        make = self._make_plan
        starts = (Start(partial(make, request, index), extent.calls, index) for index in range(extent.plans))
        self._jobs[job_id] = LiveJob(job_id, request, extent, deque(starts), share)

    def interrupt(self, job_id: str) -> None:
        """Stop sampling; pictures that have begun are decoded as they are, the others are left out."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        job.interrupted = True
        # Plans that a script waits for are answered with None; those of the job itself are left out.
        left_out, job.waiting = job.waiting, deque()
        for picture in list(job.live):
            picture.track.interrupted = True
            if picture.track.denoised is None and not picture.outstanding and picture.parent is None:
                self._drop(picture)
        for start in left_out:
            self._answer_parent(start.parent, start.index, None)
        self._close(job)

    def skip(self, job_id: str) -> None:
        """Decode the pictures that are being drawn as they are, and go on with the next."""
        job = self._jobs.get(job_id)
        for picture in job.live if job is not None else ():
            picture.track.skipped = True

    def cancel(self, job_id: str) -> None:
        """Drop a job at once, without a picture."""
        job = self._jobs.get(job_id)
        if job is not None:
            self._fail(job, DanqingError("cancelled"))

    def cancel_all(self) -> None:
        """Drop every job."""
        for job_id in list(self._jobs):
            self.cancel(job_id)

    @property
    def idle(self) -> bool:
        """Whether nothing is drawn and nothing waits."""
        return not self._jobs

    def finish(self) -> None:
        """Step until nothing is drawn any more."""
        while not self.idle:
            if not self.step():
                time.sleep(IDLE_SECONDS)

    # -- one step --

    def step(self) -> bool:
        """Start what may start, run one shared forward, hand out the answers. False when there was nothing to run."""
        self._admit()
        self._collect_loaded()
        group = self._scheduler.next_group()
        for part, answer in self._run(group):
            self._deliver(part, answer)
        return bool(group)

    def _admit(self) -> None:
        """Begin plans: of the share with the fewest first. When all places are taken, a share that has none gets one."""
        jobs = list(self._jobs.values())
        rooms = {job: room for job in jobs if (room := job.room) > 0}
        if not rooms:
            return
        busy: Counter[str] = Counter()
        for job in jobs:
            busy[job.share] += job.busy
        while rooms:
            job = min(rooms, key=lambda job: busy[job.share])
            if busy.total() >= self._pictures and busy[job.share]:
                return
            self._start(job)
            busy[job.share] += 1
            rooms[job] -= 1
            if not rooms[job]:
                del rooms[job]

    def _start(self, job: LiveJob) -> None:
        if job.id not in self._jobs or not job.waiting:
            return
        if not job.announced:
            job.announced = True
            self._emit(Message({"event": "started", "job": job.id}))
        start = job.waiting.popleft()
        track = Track(steps=start.calls)
        try:
            plan = start.make(track)
        except Exception as error:  # noqa: BLE001 - see _advance
            self._fail(job, as_danqing(error, job.request))
            return
        picture = Picture(job, start.index, plan, track, start.parent)
        job.live.append(picture)
        self._advance(picture, None)

    def _collect_loaded(self) -> None:
        for picture in [p for p in self._loading if p.loading is not None and p.loading.done()]:
            if picture not in self._loading:  # dropped with the one before it
                continue
            self._loading.remove(picture)
            future, picture.loading = picture.loading, None
            if future is None:
                continue
            error = future.exception()
            if error is not None:
                self._advance_error(picture, error)
                continue
            if not isinstance(future, WorkFuture):
                picture.models.append(future.result())
                try:
                    memory.check(future.result(), picture.job.request, self._free())
                except DanqingError as misfit:
                    self._advance_error(picture, misfit)
                    continue
            self._advance(picture, future.result())

    # -- running a group --

    def _run(self, group: list[Part]) -> list[tuple[Part, Any]]:
        if not group:
            return []
        key = group[0].key
        rows = sum(part.rows for part in group)
        failure: Exception
        try:
            with self._watch.forward((key, rows)):
                answers = self._runner.run(key.kind, [part.payload for part in group])
        except Exception as error:  # noqa: BLE001 - whatever a network raises belongs to its jobs, not to the engine
            failure = memory.without_frames(error) if memory.is_out_of_memory(error) else error
            answers = []
        if not answers:
            return self._run_apart(group, failure)
        self._note()
        return list(zip(group, answers, strict=True))

    def _note(self) -> None:
        """Tell the scheduler how long forwards took that have ended by now."""
        for (key, rows), seconds in self._watch.finished():
            self._scheduler.note(key, rows, seconds)
            if key.kind is Kind.DENOISE:
                self.counters["forwards"] += 1
                self.counters["rows"] += rows
                self.counters["forward_seconds"] += seconds

    def _run_apart(self, group: list[Part], error: Exception) -> list[tuple[Part, Any]]:
        """A group failed: its halves are tried again, so that only the culprit, or what does not fit, gets the error."""
        if len(group) > 1:
            middle = len(group) // 2
            return self._run(group[:middle]) + self._run(group[middle:])
        return [(group[0], self._tried_again(group[0], error) if memory.is_out_of_memory(error) else error)]

    def _tried_again(self, part: Part, error: Exception) -> Any:
        """Memory ran out for one part: it is run again without what is kept for speed, with the networks that it does not need
        out of the way, then row by row."""
        self.counters["out_of_memory"] += 1
        tries = [([part.payload], False), ([part.payload], True)]
        if part.key.kind is Kind.DENOISE and part.rows > 1:
            call, rows = part.payload
            tries.append(([(call, [row]) for row in rows], True))
        for pieces, alone in tries:
            self._runner.relax()
            try:
                with self._runner.alone(part.key.kind, pieces) if alone else nullcontext():
                    answers = [self._runner.run(part.key.kind, [piece])[0] for piece in pieces]
            except Exception as again:  # noqa: BLE001 - as in _run
                error = memory.without_frames(again)
                continue
            return answers[0] if len(answers) == 1 else [row for answer in answers for row in answer]
        self._runner.relax()
        return error

    # -- plans --

    def _deliver(self, part: Part, answer: Any) -> None:
        picture: Picture = part.owner
        if picture not in picture.job.live:
            return
        if isinstance(answer, Exception):
            self._advance_error(picture, answer)
            return
        picture.answers[part.slot] = answer
        picture.outstanding -= 1
        if picture.outstanding == 0:
            whole = [row for rows in picture.answers for row in rows] if picture.joined else picture.answers[0]
            self._advance(picture, whole)

    def _advance(self, picture: Picture, answer: Any) -> None:
        """Send the plan its answer and file its next call."""
        try:
            while True:
                call = picture.plan.send(answer)
                for note in picture.job.noted(picture.track.notes):
                    self._emit(Message({"event": "note", "job": picture.job.id, "note": note}))
                if isinstance(call, Finished):
                    self._finished(picture, call)
                    answer = None
                    continue
                if isinstance(call, Together) and not call.makers:
                    answer = []
                    continue
                self._file(picture, call)
                break
        except StopIteration as stop:
            self._ended(picture, stop.value)
        except Exception as error:  # noqa: BLE001 - a plan's own fault must reach its owner and nobody else
            self._advance_error(picture, error)
        else:
            self._progress(picture)

    def _ended(self, picture: Picture, value: Any) -> None:
        job = picture.job
        job.steps += picture.track.steps
        self._drop(picture)
        self._answer_parent(picture.parent, picture.index, value)
        self._close(job)

    def _answer_parent(self, parent: Picture | None, slot: int, value: Any) -> None:
        """Give a plan the answer of one of the plans that it waits for."""
        if parent is None or parent not in parent.job.live:
            return
        parent.answers[slot] = value
        parent.outstanding -= 1
        if parent.outstanding == 0:
            self._advance(parent, list(parent.answers))

    def _advance_error(self, picture: Picture, error: BaseException) -> None:
        self._fail(picture.job, as_danqing(error, picture.job.request))

    def _file(self, picture: Picture, call: Call) -> None:
        """Turn a call into parts for the scheduler, or answer it from memory."""
        self._order += 1
        if isinstance(call, Load | Work):
            picture.loading = work(call.run) if isinstance(call, Work) else self._models.acquire(call)
            self._loading.append(picture)
            return
        if isinstance(call, Together):
            picture.answers, picture.outstanding = [None] * len(call.makers), len(call.makers)
            starts = [
                Start(make, n, i, picture) for i, (make, n) in enumerate(zip(call.makers, call.calls, strict=True))
            ]
            if picture.job.interrupted:
                for start in starts:
                    self._answer_parent(picture, start.index, None)
                return
            picture.job.waiting.extendleft(reversed(starts))
            return
        if isinstance(call, Encode):
            known = self._runner.remembered(call)
            if known is not None:
                self._advance(picture, known)
                return
        parts = parts_of(call, picture, self._order)
        for part in parts:
            part.share = picture.job.share
        picture.answers = [None] * len(parts)
        picture.outstanding = len(parts)
        picture.joined = isinstance(call, Denoise)
        self._scheduler.add(parts)

    def _finished(self, picture: Picture, call: Finished) -> None:
        job = picture.job
        job.images += 1
        self.counters["images"] += 1
        index = picture.index if call.index is None else call.index
        pixels, facts = self._seen(call.pixels, call.facts) if self._seen else (call.pixels, call.facts)
        body = {"event": "image", "job": job.id, "index": index, "facts": facts.as_dict()}
        if call.request is not None and call.request is not job.request:
            body["request"] = call.request.model_dump(mode="json")
        self._emit(Message(body, (pixels.tobytes(),)))
        self._tell(job, None)

    def _drop(self, picture: Picture) -> None:
        picture.plan.close()
        picture.track.denoised = None
        if picture in picture.job.live:
            picture.job.live.remove(picture)
        if picture in self._loading:
            self._loading.remove(picture)
            if picture.loading is not None and not isinstance(picture.loading, WorkFuture):
                picture.loading.add_done_callback(self._release_loaded)
        self._scheduler.drop(picture)
        for model in picture.models:
            self._models.release(model)
        picture.models.clear()

    def _release_loaded(self, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._models.release(future.result())

    def _close(self, job: LiveJob) -> None:
        if job.over and self._jobs.pop(job.id, None) is not None:
            self._emit(Message({"event": "done", "job": job.id, "interrupted": job.interrupted, "images": job.images}))

    def _fail(self, job: LiveJob, error: DanqingError) -> None:
        if self._jobs.pop(job.id, None) is None:
            return
        for picture in list(job.live):
            self._drop(picture)
        self._emit(Message({"event": "failed", "job": job.id, "error": error.as_dict()}))

    # -- progress --

    def _progress(self, picture: Picture) -> None:
        job, now = picture.job, self._clock()
        if picture.track.denoised is None or now - job.last_progress < PROGRESS_SECONDS:
            return
        shown = None
        if job.shown not in job.live:
            job.shown = picture
        if (
            self._seen is None
            and picture is job.shown
            and (not job.last_preview or now - job.last_preview >= self._preview_seconds)
        ):
            job.last_preview = now
            shown = preview.png(picture.track.denoised, picture.track.model.latent_rgb)
        self._tell(job, shown)

    def _tell(self, job: LiveJob, shown: bytes | None) -> None:
        job.last_progress = self._clock()
        steps = job.extent.calls * job.extent.plans
        body = {
            "event": "progress",
            "job": job.id,
            "step": min(steps, job.steps + sum(p.track.step for p in job.live)),
            "steps": steps,
            "image": min(job.images, job.extent.images),
            "images": job.extent.images,
        }
        self._emit(Message(body, (shown,) if shown else ()))


def as_danqing(error: BaseException, request: GenerateRequest) -> DanqingError:
    """What a failure means to the job's owner."""
    if isinstance(error, DanqingError):
        return error
    if memory.is_out_of_memory(error):
        return memory.too_large(*memory.largest(request), 0.25)
    return DanqingError("internal", reference=f"{type(error).__name__}: {str(error)[:200]}")
