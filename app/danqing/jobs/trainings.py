"""Trainings in the queue: one at a time on the device, beside drawing, going on from where they stood after whatever happened.

The engine runs the worker as its child (`engine.trainee`); what came of it, and how far it is, stands in the training's folder.
Trainings have an order of their own, so that none of them takes a share from those who draw.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from danqing.database import Database
from danqing.engine.protocol import Message
from danqing.errors import DanqingError
from danqing.jobs.board import Board, Live
from danqing.jobs.model import Job, JobState
from danqing.jobs.store import FULL_DISK_WAIT, JobStore, insist
from danqing.jobs.telling import tell
from danqing.train.folder import Training

log = structlog.get_logger(__name__)

GRACE = 3600.0
"""Seconds for which the folder of a training that no job knows is left alone."""

PACE = 0.5
"""Seconds between two looks into the folder of the training that runs."""

TRIES = 5
"""Deaths of worker or engine, without a step of progress between them, until a training is given up."""

MARK = "job"
"""File of a training's folder that names its job in the queue; trainings of the command line have none."""

RETRY_MOST = 60.0
"""Seconds; the wait until a training whose worker died begins again doubles with each death."""


class Trainings:
    """Hands trainings to the engine and watches them (`EngineListener`). Belongs to the service's event loop.

    Args:
        board: of trainings alone; its running job is the one on the device.
        drawing: whether somebody draws now.
        held: whether nothing may begin; `leaving`: whether what runs is to save its state, for the machine goes.
        retry: seconds until a training whose worker died begins again.
    """

    def __init__(
        self,
        data: Path,
        store: JobStore,
        board: Board,
        *,
        send: Callable[[Message], Awaitable[None]],
        drawing: Callable[[], bool],
        held: Callable[[], bool],
        leaving: Callable[[], bool],
        retry: float = 2.0,
    ) -> None:
        self._data, self._store, self._board = data, store, board
        self._send, self._drawing, self._held, self._leaving = send, drawing, held, leaving
        self._retry = retry
        self._wake = asyncio.Event()
        self._numbers = itertools.count(1)
        self._open = False
        self._marks: dict[str, int] = {}
        """By job: the furthest step when it last began."""
        self._dropped: dict[str, Path] = {}
        """By token: folders of cancelled trainings whose worker may still be alive."""
        self.done_count = 0
        self.failed_count = 0

    def folder(self, job: Job) -> Training:
        """The training of a job."""
        return Training(self._data / "training" / job.request.training)

    def stats(self) -> dict[str, float]:
        """Numbers for /metrics; counts are since the start."""
        return {
            "trainings_waiting": float(self._board.waiting),
            "trainings_running": float(len(self._board.running)),
            "trainings_done": float(self.done_count),
            "trainings_failed": float(self.failed_count),
        }

    def add(self, live: Live) -> None:
        """A training has taken its place on the board: as its folder and the store know it. Blocks."""
        self._look(live)
        if self._store.told(_held(live.job.id)) is not None:
            live.paused, live.not_before = True, float("inf")
        self.wake()

    # -- handing out ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something has changed that may let a training begin."""
        self._wake.set()

    async def run(self) -> None:
        """Hand out and watch trainings until cancelled."""
        while True:
            self._wake.clear()
            pause: float | None = FULL_DISK_WAIT
            try:
                pause = await self._turn()
            except Exception:
                log.exception("trainings were not looked after")
            # Not wait_for: before Python 3.12 it may swallow that this task is cancelled.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _turn(self) -> float | None:
        """One look; seconds until the next, None when only an event can bring something new."""
        for live in list(self._board.running.values()):
            await self._watch(live)
        if not self._open or self._board.running:
            return PACE if self._board.running else None
        live_next = self._board.next(time.time())
        if live_next is not None and not self._held():
            await self._begin(live_next)
            return PACE
        waiting = [live for live in self._board.queued() if not live.paused]
        return PACE * 2 if waiting else None

    async def _begin(self, live: Live) -> None:
        training = self.folder(live.job)
        await asyncio.to_thread(self._mark_busy, training)
        if not await insist(lambda: self._store.claim(live.job.id, time.time())) or live.over.is_set():
            return
        self._marks[live.job.id] = live.step
        token = f"{live.job.id}.{next(self._numbers)}"
        self._board.start(live, token, time.time())
        if not await self._tell({"op": "train", "job": token, "folder": training.id}):
            await self._back(live)
        elif live.paused:  # while it was being claimed
            await self._tell({"op": "train-end", "job": token})

    async def _tell(self, body: dict[str, Any]) -> bool:
        return await tell(self._send, body)

    async def _watch(self, live: Live) -> None:
        training, before = self.folder(live.job), (live.step, live.seen)
        await asyncio.to_thread(self._look, live)
        await asyncio.to_thread(self._mark_busy, training)
        if (live.step, live.seen) != before:
            live.notify()
        if self._leaving() and not live.interrupting:
            live.interrupting = True
            await self._tell({"op": "train-end", "job": live.token})

    def _mark_busy(self, training: Training) -> None:
        """The worker gives way while somebody draws."""
        with contextlib.suppress(OSError):
            if self._drawing():
                training.busy.touch()
            else:
                training.busy.unlink(missing_ok=True)

    def _look(self, live: Live) -> None:
        """Read what the worker has written since the last look."""
        rows = self.folder(live.job).rows(live.seen)
        live.seen += len(rows)
        for row in rows:
            step = int(row.get("step", live.step))
            self._board.speed.advance(max(0.0, float(step - live.step)), time.monotonic())
            live.step, live.steps = step, int(row.get("steps", live.steps))
            live.loss = row.get("loss", live.loss)

    # -- listening -----------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        self._open = True
        self.wake()

    async def message(self, message: Message) -> None:
        if message.body.get("event") != "trained":
            return
        token = str(message.body.get("job"))
        if (gone := self._dropped.pop(token, None)) is not None:
            await asyncio.to_thread(shutil.rmtree, gone, True)
        live = self._board.running.get(token)
        if live is not None:
            await self._ended(live, int(message.body.get("code", 1)))
        self.wake()

    async def lost(self) -> None:
        """The worker died with the engine."""
        self._open = False
        for live in list(self._board.running.values()):
            await self._ended(live, -9)
        gone, self._dropped = self._dropped, {}
        for folder in gone.values():
            await asyncio.to_thread(shutil.rmtree, folder, True)
        self.wake()

    async def _ended(self, live: Live, code: int) -> None:
        """Bring a training whose worker is gone to where it belongs."""
        training = self.folder(live.job)
        await asyncio.to_thread(self._look, live)
        result, failure = await asyncio.to_thread(lambda: (training.result(), training.failure()))
        if result is not None:
            # Gigabytes, which only a training that is to go on needs.
            await asyncio.to_thread(shutil.rmtree, training.checkpoint.parent, True)
            await self._end(live, JobState.DONE)
        elif failure is not None and code > 0:
            await self._end(live, JobState.FAILED, failure)
        elif code == 0:
            await self._back(live)
        else:
            await self._died(live)

    async def _died(self, live: Live) -> None:
        live.attempts = 1 if live.step > self._marks.get(live.job.id, 0) else live.attempts + 1
        log.warning("training died", job=live.job.id, step=live.step, attempts=live.attempts)
        if live.attempts >= TRIES:
            error = DanqingError("train_lost", attempts=live.attempts, step=live.step)
            await self._end(live, JobState.FAILED, error)
            return
        wait = min(RETRY_MOST, self._retry * 2 ** (live.attempts - 1))
        await self._back(live, died=1, wait=wait if self._open else 0.0)

    async def _back(self, live: Live, *, died: int = 0, wait: float = 0.0) -> None:
        """To its old place in the queue; it goes on from its saved state."""
        await insist(lambda: self._store.requeue(live.job.id, died=died))
        if live.over.is_set() or live.token not in self._board.running:
            return
        self._board.requeue(live)
        live.interrupting, live.seen = False, 0
        live.not_before = float("inf") if live.paused else time.time() + wait
        await asyncio.to_thread(self._look, live)
        live.notify()

    # -- what people want ----------------------------------------------------------------------------------------------

    async def pause(self, live: Live) -> None:
        """Save its state and leave the device to others, until `resume`, also after a restart."""
        await insist(lambda: self._store.tell(_held(live.job.id), "yes"))
        live.paused = True
        if live.token and live.job.state is JobState.RUNNING:
            await self._tell({"op": "train-end", "job": live.token})
        else:
            live.not_before = float("inf")
        live.notify()

    async def interrupt(self, live: Live) -> None:
        """What stops a drawing with what it has has a training wait."""
        await self.pause(live)

    async def skip(self, live: Live) -> None:
        """There is no next picture to go to."""

    async def resume(self, live: Live) -> None:
        """Let it go on when its turn comes."""
        await insist(lambda: self._store.tell(_held(live.job.id), None))
        live.paused = False
        if live.job.state is JobState.QUEUED:
            live.not_before = 0.0
        live.notify()
        self.wake()

    async def cancel(self, live: Live) -> None:
        """End it without a result; its folder goes."""
        token, folder = live.token, self.folder(live.job).path
        running = live.job.state is JobState.RUNNING
        await self._end(live, JobState.CANCELLED, DanqingError("cancelled"))
        if running:
            self._dropped[token] = folder
            if await self._tell({"op": "train-end", "job": token, "kill": True}):
                return
            del self._dropped[token]
        await asyncio.to_thread(shutil.rmtree, folder, True)

    async def _end(self, live: Live, state: JobState, error: DanqingError | None = None) -> None:
        changed = await insist(lambda: self._store.finish(live.job.id, state, time.time(), error=error))
        await insist(lambda: self._store.tell(_held(live.job.id), None))
        if not changed or live.over.is_set():
            return
        self.done_count += state is JobState.DONE
        self.failed_count += state is JobState.FAILED
        log.info("training over", job=live.job.id, state=state.value, error=error.code if error else None)
        live.job = replace(live.job, state=state, error=error)
        self._board.remove(live, undone=state is not JobState.DONE)
        self._marks.pop(live.job.id, None)
        self.wake()


def sweep(data: Path, database: Database, now: float, grace: float = GRACE) -> int:
    """Remove the folders of trainings whose jobs are forgotten; their results lie elsewhere. How many went. Blocks.

    Args:
        now: seconds since 1970.
        grace: folders younger than this many seconds stay: one is there before its job is.
    """
    known = {row["id"] for row in database.rows("SELECT id FROM job WHERE json_extract(request, '$.kind') = 'train'")}
    gone = 0
    for mark in (data / "training").glob(f"*/{MARK}"):
        if mark.stat().st_mtime < now - grace and mark.read_text("utf-8").strip() not in known:
            shutil.rmtree(mark.parent, ignore_errors=True)
            gone += 1
    return gone


def _held(job_id: str) -> str:
    """Under which name the store remembers that a training is paused."""
    return f"held.{job_id}"
