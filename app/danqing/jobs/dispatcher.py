"""Between the queue and the engine: hands jobs out, takes pictures in, and brings every job to an end its owner can read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from danqing import database as db
from danqing.engine.protocol import ImageFacts, Message
from danqing.errors import DanqingError
from danqing.gallery import infotext
from danqing.gallery.store import Gallery, NewPicture, Picture
from danqing.jobs.board import Board, Live
from danqing.jobs.model import JobState
from danqing.jobs.store import FULL_DISK_WAIT, JobStore, insist
from danqing.jobs.tally import Tally
from danqing.jobs.telling import tell
from danqing.request import parsed
from danqing.settings import Settings

log = structlog.get_logger(__name__)
told = logging.getLogger("danqing.told")
"""The engine has printed these lines already."""

STORING_AT_ONCE = 4
"""Pictures being encoded and written; while so many are, the engine is not listened to, which bounds memory."""

CANCELLED_WAIT = 0.05
"""Seconds until a job that was cancelled while being claimed has left the queue."""

TOLD = ("image", "grid", "composite")
"""Roles of pictures that carry an infotext; masks and control maps are nothing to draw again from."""

NEWCOMERS = 32
"""Most jobs beyond `Limits.in_flight`, each of an owner who has no other with the engine."""

HELD_WAIT = 1.0
"""Seconds between two looks whether jobs are still held back."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From the settings. `attempts`: deaths of the engine that a job survives, plus one. `disk_wait`: seconds."""

    in_flight: int
    attempts: int
    disk_tries: int
    disk_wait: float

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            in_flight=settings.get_int("engine_jobs_in_flight"),
            attempts=settings.get_int("engine_attempts"),
            disk_tries=settings.get_int("disk_tries"),
            disk_wait=settings.get_float("disk_wait_seconds"),
        )


class Dispatcher:
    """Listens to the engine (`EngineListener`) and drives the jobs of a board.

    A job that may have killed the engine several times is drawn alone in its last try, so that it takes no other with it.
    """

    def __init__(
        self,
        store: JobStore,
        gallery: Gallery,
        board: Board,
        limits: Limits,
        *,
        send: Callable[[Message], Awaitable[None]],
        after_picture: Callable[[Picture], None],
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._gallery = gallery
        self._board = board
        self._limits = limits
        self._send = send
        self._after_picture = after_picture
        self._held = held
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(STORING_AT_ONCE)
        self._storing: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._open = False
        self.tally = Tally()
        self.done_count = 0
        self.failed_count = 0
        self.picture_count = 0
        self.engine_stats: dict[str, float] = {}
        self.acceleration: dict[str, Any] = {}

    # -- handing out ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something has changed that may let a job begin."""
        self._wake.set()

    async def run(self) -> None:
        """Hand out jobs until cancelled."""
        while True:
            self._wake.clear()
            try:
                due = await self._fill() if self._open else None
            except Exception:
                log.exception("handing out jobs failed")
                due = FULL_DISK_WAIT
            # Not wait_for: before Python 3.12 it may swallow that this task is cancelled.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._wake.wait()

    async def _fill(self) -> float | None:
        """Hand out what may begin now; seconds until the next job may, None when only an event can tell."""
        while self._open and (live := self._next()) is not None:
            if self._held():
                return HELD_WAIT
            try:
                claimed = await self._store.claim(live.job.id, time.time())
            except sqlite3.OperationalError as error:
                if not db.is_full(error):
                    raise
                return FULL_DISK_WAIT
            if not claimed:
                return CANCELLED_WAIT
            if not live.over.is_set():
                await self._hand_out(live)
        now = time.time()
        return min((live.not_before - now for live in self._board.queued() if live.not_before > now), default=None)

    def _next(self) -> Live | None:
        """When the engine has enough to do, somebody who has nothing there may still have one job with it."""
        running, most = self._board.running.values(), self._limits.in_flight
        if len(running) >= most + NEWCOMERS or any(self._last_try(live) for live in running):
            return None
        live = self._board.next(time.time(), newcomers=len(running) >= most)
        return None if live and running and self._last_try(live) else live

    def _last_try(self, live: Live) -> bool:
        return 1 < self._limits.attempts <= live.attempts + 1

    async def _hand_out(self, live: Live) -> None:
        if not self._open:  # the engine was lost while the job was claimed
            await insist(lambda: self._store.requeue(live.job.id))
            return
        token = live.job.id if not live.submissions else f"{live.job.id}.{next(self._numbers)}"
        self._board.start(live, token, time.time())
        request: dict[str, Any] = live.job.request.model_dump(mode="json")
        if not await self._tell({"op": "submit", "job": token, "request": request, "share": live.owner}):
            self._open = False
            if live.token == token and not live.ending:
                live.ending = True
                await insist(lambda: self._store.requeue(live.job.id))
                self._back(live)

    async def _tell(self, body: dict[str, Any]) -> bool:
        return await tell(self._send, body)

    # -- listening -----------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        self._open = True
        self.wake()

    async def lost(self) -> None:
        """Every job that was with the engine is drawn again, ends interrupted, or is given up."""
        self._open = False
        self._board.speed.idle()
        lives = [live for live in self._board.running.values() if not live.ending]
        results = await asyncio.gather(*(self._lost(live) for live in lives), return_exceptions=True)
        for live, error in zip(lives, results, strict=True):
            if isinstance(error, BaseException):
                log.error("job not taken back", job=live.job.id, user=live.owner, exc_info=error)
        self.wake()

    async def _lost(self, live: Live) -> None:
        live.ending = True
        await self._settle(live)
        attempts = live.attempts + 1
        if live.trouble or live.interrupting or self._complete(live):
            await self._end_as(live, None, live.interrupting)
        elif attempts >= self._limits.attempts:
            await self.end(live, JobState.FAILED, error=DanqingError("engine_lost", attempts=attempts))
        else:
            await insist(lambda: self._store.requeue(live.job.id, died=1))
            live.attempts = attempts
            self._back(live)

    @staticmethod
    def _complete(live: Live) -> bool:
        """Whether nothing is missing although the engine did not live to say so: only plain jobs can be counted."""
        request = live.job.request
        plain = request.script is None and not request.control and request.inpaint is None and request.kind != "extras"
        return plain and len(live.job.pictures) >= request.image_count

    async def message(self, message: Message) -> None:
        """What the engine says. Something malformed fails the job that it speaks of, nothing else."""
        event, token = message.body.get("event"), message.body.get("job")
        if event == "stats":
            numbers = {key: value for key, value in message.body.items() if isinstance(value, int | float)}
            self.engine_stats = {key: float(value) for key, value in numbers.items()}
            acceleration = message.body.get("acceleration")
            self.acceleration = acceleration if isinstance(acceleration, dict) else {}
            return
        if event == "log":
            told.log(int(message.body.get("level", 20)), "engine: %s", message.body.get("text", ""))
            return
        live = self._board.running.get(str(token))
        if live is None or live.ending:
            return
        try:
            await self._event(str(event), live, message)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            self._conclude(live, error=_internal(error, live))
            await self._tell({"op": "cancel", "job": live.token})

    async def _event(self, event: str, live: Live, message: Message) -> None:
        if event == "progress":
            self._progress(live, message)
        elif event == "image":
            await self._image(live, message)
        elif event == "note":
            live.note(DanqingError.from_dict(message.body["note"]))
        elif event == "done":
            live.expected = int(message.body.get("images", live.job.request.image_count))
            self._conclude(live, interrupted=bool(message.body.get("interrupted")))
        elif event == "failed":
            self._conclude(live, error=DanqingError.from_dict(message.body["error"]))

    def _progress(self, live: Live, message: Message) -> None:
        before = live.work_left
        live.step, live.steps = max(live.step, int(message.body["step"])), int(message.body["steps"])
        live.image = max(live.image, int(message.body.get("image", 0)))
        self._board.speed.advance(max(0.0, before - live.work_left), time.monotonic())
        if message.blobs:
            live.preview, live.preview_id = message.blobs[0], live.preview_id + 1
        live.notify()

    # -- pictures ------------------------------------------------------------------------------------------------------

    async def _image(self, live: Live, message: Message) -> None:
        facts = ImageFacts.from_dict(message.body["facts"])
        drawn = parsed(message.body["request"]) if "request" in message.body else live.job.request
        new = NewPicture(
            owner=live.job.owner,
            job=live.job.id,
            index=int(message.body["index"]),
            pixels=message.blobs[0],
            facts=facts,
            infotext=infotext.write(drawn, facts, infotext.VERSION) if facts.role in TOLD else "",
            temporary=not live.stored.save,
            kind=live.job.request.kind,
        )
        await self._slots.acquire()
        self._spawn((live.storing, self._storing), self._keep(live, new))

    async def _keep(self, live: Live, new: NewPicture) -> None:
        try:
            await asyncio.to_thread(self._add, new)
        except Exception as error:  # noqa: BLE001 - whatever keeps a picture from the disk is told to its owner
            live.trouble = error if isinstance(error, DanqingError) else _internal(error, live)
            self._conclude(live)
            return
        finally:
            self._slots.release()
        self.picture_count += 1
        live.job = replace(live.job, pictures=self._store.pictures(live.job.id))
        live.image = max(live.image, len(live.job.pictures))
        live.notify()

    def _add(self, new: NewPicture) -> None:
        picture = self._gallery.add(new)
        try:
            self._after_picture(picture)
        except Exception:
            log.exception("a plug-in failed after a picture", picture=picture.id)

    async def _settle(self, live: Live) -> None:
        """Wait until the pictures that have come in are stored."""
        while live.storing:
            await asyncio.wait(tuple(live.storing))

    @staticmethod
    def _spawn(owners: Iterable[set[asyncio.Task[None]]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        for tasks in owners:
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _conclude(self, live: Live, *, error: DanqingError | None = None, interrupted: bool = False) -> None:
        """Bring the job to its end when its pictures are stored; the first call counts."""
        if live.ending:
            return
        live.ending = True
        self._spawn((self._ending,), self._settled(live, error, interrupted))

    async def _settled(self, live: Live, error: DanqingError | None, interrupted: bool) -> None:
        await self._settle(live)
        try:
            await self._end_as(live, error, interrupted)
        except Exception:
            # Nothing can be written about it: whoever waits is told to look, and the next start draws it again.
            log.exception("the end of a job was not stored", job=live.job.id)
            self._board.remove(live)

    async def _end_as(self, live: Live, error: DanqingError | None, interrupted: bool) -> None:
        count, trouble = len(live.job.pictures), live.trouble
        wanted = live.job.request.image_count if live.expected is None else live.expected
        if trouble:
            await self._tell({"op": "cancel", "job": live.token})
        if error is None and trouble and trouble.code == "disk_full" and not live.interrupting:
            await self._disk_full(live, trouble)
            return
        error = error or trouble
        if error is None and count < wanted and not interrupted:
            error = DanqingError("internal", reference=f"{count} of {wanted} pictures")
        await self.end(live, JobState.FAILED if error else JobState.DONE, error=error, interrupted=interrupted)

    async def _disk_full(self, live: Live, error: DanqingError) -> None:
        """Draw it again when there may be room; after the last try its owner is told."""
        tries = live.disk_tries + 1
        if tries >= self._limits.disk_tries:
            await self.end(live, JobState.FAILED, error=error)
            return
        not_before = time.time() + self._limits.disk_wait * 2 ** (tries - 1)
        await insist(lambda: self._store.requeue(live.job.id, disk=1, not_before=not_before))
        live.disk_tries, live.not_before = tries, not_before
        self._back(live)

    def _back(self, live: Live) -> None:
        if not live.over.is_set():
            self._board.requeue(live)
        self.wake()

    async def end(
        self, live: Live, state: JobState, *, error: DanqingError | None = None, interrupted: bool = False
    ) -> None:
        """Make an end durable and tell those who wait. Of two ends the first counts."""
        job_id, now = live.job.id, time.time()
        notes = live.job.notes
        changed = await insist(
            lambda: self._store.finish(job_id, state, now, error=error, interrupted=interrupted, notes=notes)
        )
        if not changed or live.over.is_set():
            return
        self.done_count += state is JobState.DONE
        self.failed_count += state is JobState.FAILED
        self.tally.over(live.job, now, error)
        code = error.code if error else None
        log.info("job over", job=job_id, user=live.owner, state=state.value, error=code, seconds=_lasted(live, now))
        self._board.remove(live, undone=interrupted or state is not JobState.DONE)
        self.wake()

    async def cancel(self, live: Live) -> None:
        """End a queued or running job now."""
        token = live.token
        await self.end(live, JobState.CANCELLED, error=DanqingError("cancelled"))
        if token:
            await self._tell({"op": "cancel", "job": token})

    async def interrupt(self, live: Live) -> None:
        """End a running job with what it has; a queued one is cancelled."""
        if live.job.state is JobState.QUEUED:
            await self.cancel(live)
            return
        live.interrupting = True
        await insist(lambda: self._store.mark_interrupted(live.job.id))
        await self._tell({"op": "interrupt", "job": live.token})

    async def skip(self, live: Live) -> None:
        """End the pictures that are being drawn with what they have, and go on with the job's next."""
        if live.token:
            await self._tell({"op": "skip", "job": live.token})

    async def close(self) -> None:
        """Wait for the pictures that are being stored; ends that follow from them are found at the next start."""
        while self._storing:
            await asyncio.wait(tuple(self._storing))
        for task in tuple(self._ending):
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)


def _lasted(live: Live, now: float) -> float | None:
    """Seconds from its first beginning, None for a job that never began."""
    return None if live.job.started is None else round(max(0.0, now - live.job.started), 2)


def _internal(error: Exception, live: Live) -> DanqingError:
    log.error("job failed", job=live.job.id, user=live.owner, exc_info=error)
    return DanqingError("internal", reference=live.job.id)
