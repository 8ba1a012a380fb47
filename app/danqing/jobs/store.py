"""The durable queue: jobs as rows of SQLite.

Writes are functions of a connection, so that a caller composes them into one transaction; `JobStore` runs them in the
database's writing thread. Knows no engine and no files.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict, TypeVar, Unpack

import structlog

from danqing.database import Database, Row, is_full, is_locked
from danqing.errors import DanqingError
from danqing.jobs.model import Job, JobState
from danqing.request import GenerateRequest

MIGRATIONS = Path(__file__).with_name("migrations")

CLAIM = """
UPDATE job SET state = 'running', started = coalesce(started, :now)
WHERE id = :id AND state = 'queued'
"""
"""Atomic: of two that claim the same job one sees no row changed."""

ACTIVE = "SELECT * FROM job WHERE state IN ('queued', 'running') ORDER BY seq"

Connection: TypeAlias = sqlite3.Connection
T = TypeVar("T")

FULL_DISK_WAIT = 1.0
"""Seconds between two tries to write the queue's own file when the disk is full."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job with what only the queue needs to know of it."""

    job: Job
    seq: int
    """Grows with arrival."""
    client: str
    save: bool
    disk_tries: int
    not_before: float
    """Seconds since 1970; the job is not drawn earlier."""
    rank: int = 0
    """The order of one owner's jobs: `seq`, unless the owner has changed it."""
    priority: int = 0


class Wanted(TypedDict, total=False):
    """Which jobs are listed. `active`: not those that are over; `trainings`: these too; `kind`: of one kind, "" for all."""

    active: bool
    trainings: bool
    kind: str


class JobStore:
    """The job table. Reads answer from any thread; writes are durable when they return."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def insert(self, job: Job, *, client: str, save: bool) -> StoredJob:
        """Store a new job at the end of the queue."""

        def work(connection: Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO job (id, owner, client, request, save, state, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (job.id, job.owner, client, job.request.model_dump_json(), int(save), job.state, job.created),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        seq = await self.database.awrite(work)
        return StoredJob(job, seq, client, save, 0, 0.0, rank=seq)

    async def place(self, ranks: Mapping[str, int]) -> None:
        """Give waiting jobs other ranks, all at once."""

        def work(connection: Connection) -> None:
            connection.executemany("UPDATE job SET rank = ? WHERE id = ?", [(rank, job) for job, rank in ranks.items()])

        await self.database.awrite(work)

    async def prioritise(self, job_id: str, priority: int) -> None:
        """Give a job another priority."""

        def work(connection: Connection) -> None:
            connection.execute("UPDATE job SET priority = ? WHERE id = ?", (priority, job_id))

        await self.database.awrite(work)

    async def claim(self, job_id: str, now: float) -> bool:
        """Take a queued job for drawing; False when somebody else took or cancelled it."""

        def work(connection: Connection) -> bool:
            return connection.execute(CLAIM, {"id": job_id, "now": now}).rowcount == 1

        return await self.database.awrite(work)

    async def requeue(self, job_id: str, *, died: int = 0, disk: int = 0, not_before: float = 0.0) -> None:
        """Take a running job back to queued, to its old place, counting what went wrong."""

        def work(connection: Connection) -> None:
            connection.execute(
                "UPDATE job SET state = 'queued', attempts = attempts + ?, disk_tries = disk_tries + ?, not_before = ?"
                " WHERE id = ? AND state = 'running'",
                (died, disk, not_before, job_id),
            )

        await self.database.awrite(work)

    async def mark_interrupted(self, job_id: str) -> None:
        """Remember that the owner wants a running job to stop with what it has."""

        def work(connection: Connection) -> None:
            connection.execute("UPDATE job SET interrupted = 1 WHERE id = ? AND state = 'running'", (job_id,))

        await self.database.awrite(work)

    async def finish(
        self,
        job_id: str,
        state: JobState,
        now: float,
        *,
        error: DanqingError | None = None,
        interrupted: bool = False,
        notes: Sequence[DanqingError] = (),
    ) -> bool:
        """Bring an unfinished job to a final state; False when it already had one."""
        text = json.dumps(error.as_dict(), ensure_ascii=False) if error else None
        noted = json.dumps([note.as_dict() for note in notes], ensure_ascii=False) if notes else None

        def work(connection: Connection) -> bool:
            cursor = connection.execute(
                "UPDATE job SET state = ?, finished = ?, error = ?, interrupted = ?, notes = ?"
                " WHERE id = ? AND state IN ('queued', 'running')",
                (state, now, text, int(interrupted), noted, job_id),
            )
            return cursor.rowcount == 1

        return await self.database.awrite(work)

    def recover(self, now: float) -> None:
        """After a start: running jobs are queued again; those told to stop, or with all their pictures, are done. Blocks."""
        rows = self.database.rows(ACTIVE)
        jobs = [stored.job for stored in self._stored(row for row in rows if row["state"] == JobState.RUNNING)]
        over = [job for job in jobs if job.interrupted or len(job.pictures) >= job.request.image_count]

        def work(connection: Connection) -> None:
            for job in over:
                connection.execute("UPDATE job SET state = 'done', finished = ? WHERE id = ?", (now, job.id))
            connection.execute("UPDATE job SET state = 'queued' WHERE state = 'running'")

        self.database.write(work)

    def active(self) -> list[StoredJob]:
        """Queued and running jobs in the order of their arrival."""
        return self._stored(self.database.rows(ACTIVE))

    def get(self, job_id: str) -> Job:
        """
        Raises:
            DanqingError: `unknown_job`.
        """
        row = self.database.row("SELECT * FROM job WHERE id = ?", (job_id,))
        if row is None:
            raise DanqingError("unknown_job", job=job_id[:64])
        return self._stored([row])[0].job

    def newest(self, owner: str | None, *, limit: int, **more: Unpack[Wanted]) -> list[Job]:
        """Jobs, newest first: of one owner or of all."""
        active, trainings, kind = more.get("active", False), more.get("trainings", True), more.get("kind", "")
        rows = self.database.rows(
            "SELECT * FROM job WHERE (?1 IS NULL OR owner = ?1) AND (NOT ?2 OR state IN ('queued', 'running'))"
            " AND (?4 OR json_extract(request, '$.kind') != 'train')"
            " AND (?5 = '' OR json_extract(request, '$.kind') = ?5) ORDER BY seq DESC LIMIT ?3",
            (owner, int(active), limit, int(trainings), kind),
        )
        return [stored.job for stored in self._stored(rows)]

    def told(self, name: str) -> str | None:
        """What was told to the queue under a name."""
        row = self.database.row("SELECT value FROM told WHERE name = ?", (name,))
        return str(row["value"]) if row else None

    async def tell(self, name: str, value: str | None) -> None:
        """Remember it over restarts; None forgets it."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM told WHERE name = ?", (name,))
            if value is not None:
                connection.execute("INSERT INTO told VALUES (?, ?)", (name, value))

        await self.database.awrite(work)

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return {
            row["state"]: row["n"] for row in self.database.rows("SELECT state, count(*) n FROM job GROUP BY state")
        }

    def _stored(self, rows: Iterable[Row]) -> list[StoredJob]:
        return [_stored(row, self.pictures(row["id"])) for row in rows]

    def pictures(self, job_id: str) -> tuple[str, ...]:
        """Ids of a job's pictures in the order of its images."""
        rows = self.database.rows("SELECT id FROM picture WHERE job = ? AND complete = 1 ORDER BY position", (job_id,))
        return tuple(row["id"] for row in rows)


def _stored(row: Row, pictures: tuple[str, ...]) -> StoredJob:
    job = Job(
        id=row["id"],
        owner=row["owner"],
        request=_request(row["request"]),
        state=JobState(row["state"]),
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        attempts=row["attempts"],
        error=DanqingError.from_dict(json.loads(row["error"])) if row["error"] else None,
        pictures=pictures,
        interrupted=bool(row["interrupted"]),
        notes=tuple(map(DanqingError.from_dict, json.loads(row["notes"] or "[]"))),
    )
    return StoredJob(
        job,
        row["seq"],
        row["client"],
        bool(row["save"]),
        row["disk_tries"],
        row["not_before"],
        rank=row["seq"] if row["rank"] is None else row["rank"],
        priority=row["priority"],
    )


def _request(text: str) -> GenerateRequest:
    # A newer program may have stored fields that this one does not know; after going back its jobs are still drawn.
    fields = json.loads(text)
    return GenerateRequest.model_validate({k: v for k, v in fields.items() if k in GenerateRequest.model_fields})


async def insist(write: Callable[[], Awaitable[T]]) -> T:
    """Run a write of the queue; on a full or locked disk again and again, so that what happened is not forgotten."""
    while True:
        try:
            return await write()
        except sqlite3.OperationalError as error:
            if not is_full(error) and not is_locked(error):
                raise
            log.warning("the queue cannot be written", error=str(error))
            await asyncio.sleep(FULL_DISK_WAIT)


class DataLock:
    """Held while a service uses a data folder. The kernel frees it when the process ends, however it ends."""

    def __init__(self, data: Path) -> None:
        """
        Raises:
            DanqingError: `data_locked`.
        """
        data.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(data / "danqing.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise DanqingError("data_locked", path=str(data)) from None

    def release(self) -> None:
        os.close(self._fd)
