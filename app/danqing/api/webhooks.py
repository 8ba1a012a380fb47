"""Webhooks: an address of the client's that is told, by POST, when its job is over. Off unless the setting `webhooks` is on.

What is to be told is on disk before the job is acknowledged, in `DATA/secrets/webhooks.db`, and outlives a restart. An address
that does not answer 2xx is tried again after the `WAITS`, then given up: the job itself is kept and can be asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, Field

from danqing.api import remote
from danqing.database import Database
from danqing.errors import DanqingError
from danqing.jobs.model import JobView
from danqing.jobs.service import JobService
from danqing.settings import Settings

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).with_name("webhook_migrations")
WAITS = (2.0, 15.0, 60.0, 600.0, 3600.0)
"""Seconds before each further try."""

GRACE_SECONDS = 2.0
"""For an address to answer when the server stops."""
AT_ONCE = 8
SIGNATURE = "X-Danqing-Signature"


class Hooked(BaseModel):
    """Fields of a job that asks to be told of."""

    webhook: Annotated[
        str | None, Field(max_length=2000, description="Told by POST, with the job's JSON, when the job is over.")
    ] = None
    webhook_secret: Annotated[
        str | None, Field(max_length=200, description=f"Key of the HMAC-SHA256 of the body in {SIGNATURE}.")
    ] = None


class Webhooks:
    """The addresses to tell.

    Args:
        told: a job as JSON.
        public: whether an IP address may be gone to; `remote.is_public` where None.
    """

    def __init__(
        self,
        service: JobService,
        settings: Settings,
        told: Callable[[JobView], dict[str, Any]],
        public: remote.Public | None = None,
    ) -> None:
        self._service, self._told, self._public = service, told, public
        self._on = settings.get_bool("webhooks")
        self._file = service.data / "secrets" / "webhooks.db"
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._ending = False
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._database: Database | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell while the server runs; what is left is told after the next start."""
        if self._on:
            await asyncio.to_thread(self._open)
            for row in self._rows():
                self._watch(row["job"])
        try:
            yield
        finally:
            await self._end()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._database is not None:
                await asyncio.to_thread(self._database.close)

    async def _end(self) -> None:
        """What is being told has a moment to hear that it was: else it would be told again after the next start."""
        self._ending = True
        for task in self._tasks - self._telling:
            task.cancel()
        if self._telling:
            await asyncio.wait(self._telling, timeout=GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()

    def _open(self) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._database = Database.open(self._file, MIGRATIONS)

    @contextlib.asynccontextmanager
    async def promised(self, job_id: str, wish: Hooked) -> AsyncIterator[None]:
        """Around submitting a job: what it asks for is kept before, and told when it is over; not when submitting fails.

        Raises:
            DanqingError: `webhooks_off`, `webhook_refused`; nothing where the job names no address.
        """
        if not wish.webhook:
            yield
            return
        await self._keep(job_id, wish.webhook, wish.webhook_secret or "")
        try:
            yield
        except BaseException:
            await self._forget(job_id)
            raise
        self._watch(job_id)

    async def _keep(self, job_id: str, url: str, secret: str) -> None:
        if self._database is None:
            raise DanqingError("webhooks_off")
        try:
            await asyncio.to_thread(remote.checked, url, self._public)
        except DanqingError as error:
            raise DanqingError("webhook_refused", url=url[:200], reason=str(error.params["reason"])) from None
        insert = "INSERT OR IGNORE INTO webhooks (job, url, secret) VALUES (?, ?, ?)"
        await self._database.awrite(lambda sql: sql.execute(insert, (job_id, url, secret)))

    def _watch(self, job_id: str) -> None:
        task = asyncio.create_task(self._tell(job_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, job_id: str) -> None:
        try:
            await self._service.wait(job_id)
            view = self._service.view(job_id)
        except DanqingError as error:
            if error.code == "unknown_job":  # never submitted, or deleted since: there is nothing to tell
                await self._forget(job_id)
            return
        body = json.dumps(self._told(view)).encode()
        while not self._ending and (row := self._row(job_id)) is not None:
            await asyncio.sleep(max(0.0, row["due"] - time.time()))
            await self._try(row, body)

    async def _try(self, row: sqlite3.Row, body: bytes) -> None:
        """Tell once, and keep what came of it."""
        task = asyncio.current_task()
        assert task is not None
        self._telling.add(task)
        try:
            if await self._sent(row, body) or row["tries"] >= len(WAITS):
                await self._forget(row["job"])
            else:
                await self._later(row["job"], time.time() + WAITS[row["tries"]])
        finally:
            self._telling.discard(task)

    async def _sent(self, row: sqlite3.Row, body: bytes) -> bool:
        headers = {}
        if row["secret"]:
            headers[SIGNATURE] = "sha256=" + hmac.new(row["secret"].encode(), body, hashlib.sha256).hexdigest()
        async with self._gate:
            try:
                status = await asyncio.to_thread(remote.posted, row["url"], body, headers, self._public)
            except DanqingError as error:
                # Not the address itself: it may carry a key of the client's.
                log.info("webhook not told", job=row["job"], tries=row["tries"] + 1, reason=error.params["reason"])
                return False
        log.info("webhook told", job=row["job"], tries=row["tries"] + 1, status=status)
        return 200 <= status < 300

    async def _later(self, job_id: str, due: float) -> None:
        assert self._database is not None
        change = "UPDATE webhooks SET tries = tries + 1, due = ? WHERE job = ?"
        await self._database.awrite(lambda sql: sql.execute(change, (due, job_id)))

    async def _forget(self, job_id: str) -> None:
        assert self._database is not None
        await self._database.awrite(lambda sql: sql.execute("DELETE FROM webhooks WHERE job = ?", (job_id,)))

    def _rows(self) -> list[sqlite3.Row]:
        assert self._database is not None
        return self._database.rows("SELECT * FROM webhooks")

    def _row(self, job_id: str) -> sqlite3.Row | None:
        assert self._database is not None
        return self._database.row("SELECT * FROM webhooks WHERE job = ?", (job_id,))

    def promises(self) -> int:
        """How many jobs are still to be told of."""
        return len(self._rows()) if self._database is not None else 0
