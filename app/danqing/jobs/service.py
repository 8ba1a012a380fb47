"""The queue as the doors see it: submit, watch, interrupt. Lives in the web process's event loop.

`submit`, `interrupt`, `cancel`, `wait` and `changes` belong to the event loop that called `start`; `get`, `view`, `views`,
`readiness` and `stats` answer at once from any thread (memory, or one indexed read that waits for no writer).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy
import structlog

from danqing import database as db
from danqing import plugins as hooks
from danqing.database import Database
from danqing.engine.protocol import Message
from danqing.errors import DanqingError
from danqing.gallery import inputs, upkeep
from danqing.gallery.store import Gallery, Picture, free_mb
from danqing.jobs.board import Board, Live
from danqing.jobs.dispatcher import Dispatcher, Limits
from danqing.jobs.engine_link import EngineLink, engine_command
from danqing.jobs.model import Job, JobState, JobView, Readiness
from danqing.jobs.store import MIGRATIONS, DataLock, JobStore
from danqing.request import GenerateRequest
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.library.index import Library

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 3600.0


class JobService:
    """The durable queue and the engine behind it.

    Args:
        data: the data folder; made when missing.
        settings: with the rows of `jobs.settings` and `gallery.settings`.
        library: pins a request's model when it is submitted, so that a job drawn later uses the model that was meant.
        engine_command: the engine's program without `--socket`; None for the real one.
        plugins: a manager of `danqing.plugins`; None for one without plug-ins.
    """

    gallery: Gallery

    def __init__(
        self,
        data: Path,
        settings: Settings,
        *,
        library: Library,
        engine_command: Sequence[str] | None = None,
        plugins: pluggy.PluginManager | None = None,
    ) -> None:
        self.data = data.absolute()
        self._settings = settings
        self._library = library
        self._command = engine_command
        self._plugins = plugins or hooks.manager()
        self._board = Board()
        self._tasks: list[asyncio.Task[None]] = []
        self._submitting = 0
        self._stopping = False

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
        for stored in self._store.active():
            self._board.add(stored)
        self._start_tasks()
        log.info("queue open", waiting=self._board.waiting)

    def _open(self) -> None:
        database = Database.open(self.data / "danqing.db", MIGRATIONS)
        try:
            upkeep.recover(self.data, database)
            self._store = JobStore(database)
            self._store.recover(time.time())
        except BaseException as error:
            database.close()
            if db.is_full(error):
                raise DanqingError("disk_full", free_mb=free_mb(self.data)) from None
            raise
        self._database, self.gallery = database, Gallery(self.data, database)

    def _start_tasks(self) -> None:
        settings = self._settings
        limits = Limits(
            in_flight=settings.get_int("engine_jobs_in_flight"),
            attempts=settings.get_int("engine_attempts"),
            disk_tries=settings.get_int("disk_tries"),
            disk_wait=settings.get_float("disk_wait_seconds"),
        )
        drain = self.data / "run" / "drain"
        drain.unlink(missing_ok=True)
        self._dispatcher = Dispatcher(
            self._store,
            self.gallery,
            self._board,
            limits,
            send=self._send,
            after_picture=self._after_picture,
            # A machine that is about to be taken away finishes what it draws and begins nothing.
            held=drain.exists,
        )
        external, socket = settings.get_bool("engine_external"), settings.get_str("engine_socket")
        self._link = EngineLink(
            self.data,
            self._dispatcher,
            socket=Path(socket) if socket else None,
            command=None if external else self._command or engine_command(self.data),
            restart_seconds=settings.get_float("engine_restart_seconds"),
            connect_seconds=settings.get_float("engine_connect_seconds"),
        )
        self._tasks = [asyncio.create_task(work) for work in (self._link.run(), self._dispatcher.run(), self._sweep())]

    async def _send(self, message: Message) -> None:
        await self._link.send(message)

    def _after_picture(self, picture: Picture) -> None:
        self._plugins.hook.danqing_after_picture(path=str(picture.path), infotext=picture.infotext)

    async def _sweep(self) -> None:
        while True:
            try:
                hours = self._settings.get_float("temporary_hours")
                await asyncio.to_thread(upkeep.sweep, self.data, self._database, hours)
                wanted = {image for live in self._board.jobs() for image in live.job.request.inputs}
                await asyncio.to_thread(inputs.sweep, self.data, wanted, self._settings.get_float("input_hours"))
            except (OSError, sqlite3.Error):
                log.exception("temporary pictures not removed")
            await asyncio.sleep(SWEEP_SECONDS)

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
        for live in self._board.jobs():
            live.over.set()
            live.notify()
        self._tasks = []
        await asyncio.to_thread(self._database.close)
        self._lock.release()

    @property
    def _external(self) -> bool:
        return self._settings.get_bool("engine_external")

    # -- asking --------------------------------------------------------------------------------------------------------

    async def submit(self, request: GenerateRequest, *, owner: str, client: str = "", save: bool = True) -> Job:
        """Put a job at the end of the queue; it is on disk when this returns.

        Args:
            request: `checked`; a random seed and the default model are resolved here.
            owner: whose job it is.
            client: which of the owner's pages or programs asked.
            save: False for pictures that are only kept for a while.

        Raises:
            DanqingError: `queue_full`, `disk_full`, or what the library says of the model.
        """
        self._check_queue()
        self._submitting += 1
        try:
            await asyncio.to_thread(self._check_disk)
            request = await asyncio.to_thread(self._prepared, request)
            job = Job(secrets.token_hex(16), owner, request, JobState.QUEUED, time.time())
            stored = await self._store.insert(job, client=client, save=save)
        except (OSError, sqlite3.OperationalError) as error:
            if db.is_full(error):
                raise DanqingError("disk_full", free_mb=free_mb(self.data)) from error
            raise
        finally:
            self._submitting -= 1
        self._board.add(stored)
        self._dispatcher.wake()
        return job

    def _check_queue(self) -> None:
        count, maximum = self._board.waiting + self._submitting, self._settings.get_int("limit_queue")
        if self._stopping:
            raise DanqingError("engine_not_ready")
        if count >= maximum:
            raise DanqingError("queue_full", count=count, maximum=maximum)

    def _check_disk(self) -> None:
        free = free_mb(self.data)
        if free < self._settings.get_int("disk_reserve_mb"):
            raise DanqingError("disk_full", free_mb=free)

    def _prepared(self, request: GenerateRequest) -> GenerateRequest:
        for implementation in self._plugins.hook.danqing_before_job.get_hookimpls():
            changed = implementation.function(*(request for _ in implementation.argnames))
            request = changed if isinstance(changed, GenerateRequest) else request
        name = self._library.resolve(request.model).name
        return request.model_copy(update={"model": name}).resolved()

    async def interrupt(self, job_id: str) -> None:
        """Stop sampling: the picture so far is kept and the job becomes done; a queued job becomes cancelled.

        Raises:
            DanqingError: `unknown_job`. A job that is over stays as it is.
        """
        live = self._live(job_id)
        if live is not None:
            await self._dispatcher.interrupt(live)

    async def skip(self, job_id: str) -> None:
        """End the pictures that are being drawn with what they have; the job goes on with its next.

        Raises:
            DanqingError: `unknown_job`. A job that is over, or waits, stays as it is.
        """
        live = self._live(job_id)
        if live is not None:
            await self._dispatcher.skip(live)

    async def cancel(self, job_id: str) -> None:
        """End the job without more pictures.

        Raises:
            DanqingError: `unknown_job`. A job that is over stays as it is.
        """
        live = self._live(job_id)
        if live is not None:
            await self._dispatcher.cancel(live)

    # -- looking -------------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """
        Raises:
            DanqingError: `unknown_job`.
        """
        live = self._board.find(job_id)
        return live.job if live else self._store.get(job_id)

    def view(self, job_id: str) -> JobView:
        """
        Raises:
            DanqingError: `unknown_job`.
        """
        live = self._board.find(job_id)
        return self._board.view(live) if live else _over(self._store.get(job_id))

    def views(self, owner: str | None = None, *, active: bool = False, limit: int = 100) -> list[JobView]:
        """Newest first; `active` leaves out those that are over."""
        return [self._view_of(job) for job in self._store.newest(owner, active=active, limit=limit)]

    def _view_of(self, job: Job) -> JobView:
        live = self._board.find(job.id)
        return self._board.view(live) if live else _over(job)

    def _live(self, job_id: str) -> Live | None:
        live = self._board.find(job_id)
        if live is None:
            self._store.get(job_id)
        return live

    async def wait(self, job_id: str) -> Job:
        """The job when it is over.

        Raises:
            DanqingError: `unknown_job`; `engine_not_ready` when the service stops first.
        """
        live = self._live(job_id)
        if live is not None:
            await live.over.wait()
            if self._stopping:
                raise DanqingError("engine_not_ready")
        return self._store.get(job_id)

    async def changes(self, job_id: str) -> AsyncIterator[JobView]:
        """A view at once, then one per change (several changes may come as one), the last one when the job is over.

        Raises:
            DanqingError: `unknown_job`.
        """
        live, event = self._live(job_id), asyncio.Event()
        if live is None:
            yield self.view(job_id)
            return
        live.watchers.add(event)
        try:
            while not self._stopping:
                event.clear()
                view = self.view(job_id)
                yield view
                if view.job.state.final:
                    return
                await event.wait()
        finally:
            live.watchers.discard(event)

    def readiness(self) -> Readiness:
        """Whether a picture could be drawn now, and the engine's phases."""
        return self._link.readiness() if self._tasks else Readiness(ready=False)

    def stats(self) -> dict[str, float]:
        """Numbers for /metrics; counts are since the start."""
        dispatcher, link = self._dispatcher, self._link
        return {
            "jobs_waiting": float(self._board.waiting),
            "jobs_running": float(len(self._board.running)),
            "jobs_done": float(dispatcher.done_count),
            "jobs_failed": float(dispatcher.failed_count),
            "pictures": float(dispatcher.picture_count),
            "engine_ready": float(link.is_ready),
            "engine_starts": float(link.starts),
            "disk_free_bytes": float(shutil.disk_usage(self.data).free),
        } | {f"engine_{key}": value for key, value in dispatcher.engine_stats.items()}


def _over(job: Job) -> JobView:
    return JobView(job, image=len(job.pictures), images=job.request.image_count)
