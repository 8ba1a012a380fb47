"""The queue as the doors see it: submit, watch, interrupt. Lives in the web process's event loop.

`submit`, `interrupt`, `cancel`, `wait` and `changes` belong to the event loop that called `start`; `get`, `view`, `views`,
`readiness` and `stats` answer at once from any thread (memory, or one indexed read that waits for no writer). Where a method
takes an `owner`, somebody else's job is to it as if there were none (`unknown_job`); None is an administrator, who sees all.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import structlog

from danqing import plugins as hooks
from danqing.control.catalog import Values
from danqing.database import Database
from danqing.engine.interrogators import Manner
from danqing.engine.protocol import Message
from danqing.errors import DanqingError
from danqing.gallery import upkeep
from danqing.gallery.copies import Copies, bucket_of
from danqing.gallery.labels import Labels
from danqing.gallery.store import Gallery, Picture
from danqing.jobs.admission import Admission, OwnerLimits, not_written
from danqing.jobs.board import Board, Live
from danqing.jobs.dispatcher import Dispatcher, Limits
from danqing.jobs.engine_link import Audience, EngineLink, engine_command
from danqing.jobs.fairness import weights
from danqing.jobs.housekeeping import Housekeeping
from danqing.jobs.model import Job, JobState, JobView, Readiness
from danqing.jobs.questions import Questions
from danqing.jobs.store import MIGRATIONS, DataLock, JobStore, Wanted
from danqing.jobs.tally import Tally
from danqing.jobs.train_admission import TrainAdmission, room_of
from danqing.jobs.training_desk import TrainingDesk
from danqing.jobs.trainings import Trainings
from danqing.request import GenerateRequest
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.library.index import Library
    from danqing.plugins.loading import Plugins

log = structlog.get_logger(__name__)


class JobService:
    """The durable queue and the engine behind it.

    Args:
        data: the data folder; made when missing.
        settings: with the rows of `jobs.settings` and `gallery.settings`.
        library: pins a request's model when it is submitted, so that a job drawn later uses the model that was meant.
        engine_command: the engine's program without `--socket`; None for the real one.
        plugins: those of the web process; None for a service without any.
    """

    gallery: Gallery

    def __init__(
        self,
        data: Path,
        settings: Settings,
        *,
        library: Library,
        engine_command: Sequence[str] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self.data = data.absolute()
        self._settings, self._library = settings, library
        self._command = engine_command
        self._plugins = plugins or hooks.manager()
        self._board, self._training_board = (Board(weights(settings.get_str("queue_weights"))) for _ in range(2))
        self._admission = Admission(self.data, settings, self._board, library, self._plugins)
        self._labels, self._bucket = Labels.of(settings), bucket_of(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = self._paused = False

    def limit_owners(self, limits_of: Callable[[str], OwnerLimits]) -> None:
        """Let somebody who knows the users say what each may have. Called often: it must answer from memory."""
        self._admission.limits_of = limits_of
        for board in (self._board, self._training_board):
            board.weigh(lambda owner: limits_of(owner).weight)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take running jobs back to queued, start the engine and hand out jobs.

        Raises:
            DanqingError: `data_locked`, `data_newer`, `data_broken` or `disk_full`.
        """
        lock = await asyncio.to_thread(DataLock, self.data)
        try:
            await asyncio.to_thread(self._open)
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        self._start_tasks()
        # The queue is whole before anybody else's turn: housekeeping asks it which pictures are wanted.
        lives = [self._board_for(stored.job).add(stored) for stored in self._store.active()]
        for live in lives:
            if live.trains:
                await asyncio.to_thread(self._trainings.add, live)
        self._dispatcher.wake()
        log.info("queue open", waiting=self._board.waiting)

    def _open(self) -> None:
        database = Database.open(self.data / "danqing.db", MIGRATIONS)
        try:
            upkeep.recover(self.data, database)
            self._store = JobStore(database)
            self._store.recover(time.time())
        except BaseException as error:
            database.close()
            raise not_written(error, self.data) from error
        self._database, self.gallery = database, Gallery(self.data, database, self._labels)
        self._paused = self._store.told("paused") is not None

    def _start_tasks(self) -> None:
        settings = self._settings
        drain = self.data / "run" / "drain"
        drain.unlink(missing_ok=True)
        self._dispatcher = Dispatcher(
            self._store,
            self.gallery,
            self._board,
            Limits.of(settings),
            send=self._send,
            after_picture=self._after_picture,
            # A machine that is about to be taken away finishes what it draws and begins nothing.
            held=lambda: self._paused or drain.exists(),
        )
        self._questions = Questions(self._send)
        self._trainings = Trainings(
            self.data,
            self._store,
            self._training_board,
            send=self._send,
            drawing=lambda: bool(self._board.running),
            held=lambda: self._paused or drain.exists(),
            leaving=drain.exists,
            retry=8 * settings.get_float("engine_restart_seconds"),
        )
        board, room = self._training_board, lambda: room_of(self._dispatcher.engine_stats)
        admission = TrainAdmission(self.data, settings, board, self._library, room)
        self.training = TrainingDesk(self._store, board, self._trainings, admission)
        command = None if self._external else self._command or engine_command(self.data)
        listeners = Audience(self._dispatcher, self._questions, self._trainings)
        self._link = EngineLink.of(self.data, settings, listeners, command)
        self._copies = Copies(self.data, self._database, self._bucket, settings.get_str("s3_prefix"))
        house = Housekeeping(self.data, settings, self._database, self._board, self._copies)
        works = (self._link.run(), self._dispatcher.run(), self._trainings.run(), house.run(), self._copies.run())
        self._tasks = [asyncio.create_task(work) for work in works]

    async def _send(self, message: Message) -> None:
        await self._link.send(message)

    def _after_picture(self, picture: Picture) -> None:
        told = {"path": str(picture.path), "infotext": picture.infotext}
        for _ in self._plugins.calls("danqing_after_picture", told):
            pass

    async def stop(self) -> None:
        """Stop handing out jobs and stop the engine; running jobs stay in the store and are drawn after the next start."""
        self._stopping = True
        if not self._tasks:
            return
        if not self._external:
            with contextlib.suppress(OSError):
                await self._link.send(Message({"op": "stop"}))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._dispatcher.close()
        await self._questions.lost()
        for live in (*self._board.jobs(), *self._training_board.jobs()):
            live.over.set()
            live.notify()
        self._tasks = []
        await asyncio.to_thread(self._database.close)
        self._lock.release()

    @property
    def _external(self) -> bool:
        return self._settings.get_bool("engine_external")

    # -- asking --------------------------------------------------------------------------------------------------------

    async def submit(
        self, request: GenerateRequest, *, owner: str, client: str = "", save: bool = True, job_id: str = ""
    ) -> Job:
        """Put a job at the end of the queue; it is on disk when this returns.

        Args:
            request: `checked`; a random seed and the default model are resolved here.
            owner: whose job it is.
            client: which of the owner's pages or programs asked.
            save: False for pictures that are only kept for a while.
            job_id: 32 hexadecimal digits; a job that has this id already is returned as it is. "" for a new one.

        Raises:
            DanqingError: `queue_full`, `too_many_jobs`, `disk_full`, or what the library says of the model.
        """
        if self._stopping:
            raise DanqingError("engine_not_ready")
        admission = self._admission
        admission.enter(owner)
        try:
            await asyncio.to_thread(admission.check_disk)
            request = await asyncio.to_thread(admission.prepared, request)
            admission.check_images(owner, request)
            job = Job(job_id or secrets.token_hex(16), owner, request, JobState.QUEUED, time.time())
            stored = await self._store.insert(job, client=client, save=save)
        except (OSError, sqlite3.OperationalError) as error:
            raise not_written(error, self.data) from error
        except sqlite3.IntegrityError:
            if not job_id:
                raise
            return self.get(job_id)
        finally:
            admission.leave(owner)
        self._board.add(stored)
        self._dispatcher.wake()
        log.info("job queued", job=job.id, user=owner, kind=request.kind)
        return job

    async def interrogate(self, image: str, name: str, manner: Manner) -> str:
        """What the interrogator `name` sees in an input picture; see `Questions`."""
        return await self._questions.interrogate(self.data, image, name, manner)

    async def translate(self, texts: list[str]) -> list[str]:
        """Chinese texts in English; see `Questions`."""
        return await self._questions.translate(texts)

    async def detect(self, image: str, mask: str, module: str, values: Values) -> tuple[bytes, str]:
        """The control map that a preprocessor makes of an input picture; see `Questions`."""
        return await self._questions.detect(image, mask, module, values)

    async def interrupt(self, job_id: str, owner: str | None = None) -> None:
        """Stop sampling: the picture so far is kept and the job becomes done; a queued job becomes cancelled; a training waits.

        Raises:
            DanqingError: `unknown_job`. A job that is over stays as it is.
        """
        live = self._live(job_id, owner)
        if live is not None:
            await self._driver(live).interrupt(live)

    async def skip(self, job_id: str, owner: str | None = None) -> None:
        """End the pictures that are being drawn with what they have; the job goes on with its next.

        Raises:
            DanqingError: `unknown_job`. A job that is over, or waits, stays as it is.
        """
        live = self._live(job_id, owner)
        if live is not None:
            await self._driver(live).skip(live)

    async def cancel(self, job_id: str, owner: str | None = None) -> None:
        """End the job without more pictures.

        Raises:
            DanqingError: `unknown_job`. A job that is over stays as it is.
        """
        live = self._live(job_id, owner)
        if live is not None:
            await self._driver(live).cancel(live)

    async def reorder(self, job_id: str, place: int, owner: str | None = None) -> None:
        """Move a waiting job to another place among its owner's waiting jobs of the same priority, 0 first.

        Raises:
            DanqingError: `unknown_job`. A job that runs or is over stays as it is.
        """
        live = self._live(job_id, owner)
        if live is None or live.job.state is not JobState.QUEUED:
            return
        board = self._board_for(live.job)
        moved = board.reordered(live, place)
        await self._store.place({one.job.id: rank for one, rank in moved})
        for one, rank in moved:
            board.move(one, rank=rank)
        board.notify_queue(live)

    async def prioritise(self, job_id: str, priority: int) -> None:
        """For administrators: a waiting job goes before all of lower priority (0 by default), whoever owns them.

        Raises:
            DanqingError: `unknown_job`.
        """
        live = self._live(job_id, None)
        if live is not None:
            await self._store.prioritise(job_id, priority)
            board = self._board_for(live.job)
            board.move(live, priority=priority)
            board.notify_queue(live)

    async def pause(self) -> None:
        """Begin no more jobs until `resume`, also after a restart; what runs goes on."""
        self._paused = True
        await self._store.tell("paused", "yes")

    async def resume(self) -> None:
        """Hand out jobs again."""
        await self._store.tell("paused", None)
        self._paused = False
        self._dispatcher.wake()

    async def drain(self, seconds: float) -> bool:
        """`pause`, and wait until nothing runs: True then, False when `seconds` have passed before."""
        await self.pause()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for live in list(self._board.running.values()):
                    await live.over.wait()
        return not self._board.running

    async def restart_engine(self) -> None:
        """Have the engine begin anew with its settings; what it draws is drawn again.

        Raises:
            DanqingError: `engine_not_ready`, when there is none.
        """
        try:
            await self._link.send(Message({"op": "restart"}))
        except OSError:
            raise DanqingError("engine_not_ready") from None

    @property
    def paused(self) -> bool:
        return self._paused

    # -- looking -------------------------------------------------------------------------------------------------------

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """
        Raises:
            DanqingError: `unknown_job`.
        """
        live = self._live(job_id, owner)
        return live.job if live else self._store.get(job_id)

    def view(self, job_id: str, owner: str | None = None) -> JobView:
        """
        Raises:
            DanqingError: `unknown_job`.
        """
        live = self._live(job_id, owner)
        return self._board_for(live.job).view(live) if live else _over(self._store.get(job_id))

    def views(self, owner: str | None = None, *, limit: int = 100, **more: Unpack[Wanted]) -> list[JobView]:
        """Newest first, of one owner or of all; see `JobStore.newest`."""
        return [self._view_of(job) for job in self._store.newest(owner, limit=limit, **more)]

    def _view_of(self, job: Job) -> JobView:
        live = self._board_for(job).find(job.id)
        return self._board_for(job).view(live) if live else _over(job)

    def _driver(self, live: Live) -> Dispatcher | Trainings:
        return self._trainings if live.trains else self._dispatcher

    def _board_for(self, job: Job) -> Board:
        return self._training_board if job.request.kind == "train" else self._board

    def _live(self, job_id: str, owner: str | None) -> Live | None:
        live = self._board.find(job_id) or self._training_board.find(job_id)
        job = live.job if live else self._store.get(job_id)
        if owner is not None and job.owner != owner:
            raise DanqingError("unknown_job", job=job_id[:64])
        return live

    async def wait(self, job_id: str, owner: str | None = None) -> Job:
        """The job when it is over.

        Raises:
            DanqingError: `unknown_job`; `engine_not_ready` when the service stops first.
        """
        live = self._live(job_id, owner)
        if live is not None:
            await live.over.wait()
            if self._stopping:
                raise DanqingError("engine_not_ready")
        return self._store.get(job_id)

    async def changes(self, job_id: str, owner: str | None = None) -> AsyncIterator[JobView]:
        """A view at once, then one per change (several changes may come as one), the last one when the job is over.

        Raises:
            DanqingError: `unknown_job`.
        """
        live = self._live(job_id, owner)
        if live is None:
            yield self.view(job_id)
            return
        async with contextlib.aclosing(live.views(lambda: self.view(job_id))) as views:
            async for view in views:
                if self._stopping:
                    return
                yield view

    def readiness(self) -> Readiness:
        """Whether a picture could be drawn now, and the engine's phases."""
        if not self._tasks:
            return Readiness(ready=False)
        warning = self._admission.disk_low() or self._copies.trouble
        return replace(self._link.readiness(), warning=warning, acceleration=self._dispatcher.acceleration)

    @property
    def tally(self) -> Tally:
        """What became of the jobs that are over."""
        return self._dispatcher.tally

    def stats(self) -> dict[str, float]:
        """Numbers for /metrics; counts are since the start."""
        dispatcher, link = self._dispatcher, self._link
        return {
            "jobs_waiting": float(self._board.waiting),
            "jobs_running": float(len(self._board.running)),
            "jobs_done": float(dispatcher.done_count),
            "jobs_failed": float(dispatcher.failed_count),
            "pictures": float(dispatcher.picture_count),
            **self._trainings.stats(),
            **self._copies.stats(),
            "engine_ready": float(link.is_ready),
            "engine_starts": float(link.starts),
            "queue_paused": float(self._paused),
            "disk_low": float(self._admission.disk_low() is not None),
            "disk_free_bytes": float(shutil.disk_usage(self.data).free),
        } | {f"engine_{key}": value for key, value in dispatcher.engine_stats.items()}


def _over(job: Job) -> JobView:
    step = job.request.steps if job.request.kind == "train" and job.state is JobState.DONE else 0
    return JobView(job, step=step, steps=step, image=len(job.pictures), images=job.request.image_count)
