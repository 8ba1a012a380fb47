"""The one SQLite file: WAL, `synchronous=FULL`, migrations, one writing thread.

Every write runs in one thread of its own, as one transaction that is on disk when the call returns. Reads use a second
connection from any thread: with WAL a reader waits for no writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from danqing.errors import DanqingError

T = TypeVar("T")
SqlValue = str | int | float | None
Row = sqlite3.Row

LOCKED_SECONDS = 120.0
"""How long a write waits while another process holds the lock."""


class Database:
    """An open database. Made by `Database.open`; `close` it when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="danqing-sql")
        self._read_lock = threading.Lock()
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection

    @classmethod
    def open(cls, path: Path, migrations: Path) -> Database:
        """Open or create `path` and bring it to the newest schema.

        Args:
            path: the file; its folder must exist.
            migrations: a folder of `NNNN_name.sql`, numbered from 1 without gaps.

        Raises:
            DanqingError: `data_newer` when the file knows more migrations than we do, `data_broken` when it is no database,
                `disk_full`; `cannot_write` when we may not.
        """
        database = cls(path)
        try:
            database._executor.submit(database._connect, migrations).result()
        except BaseException:
            database._executor.shutdown()
            raise
        return database

    def _connect(self, migrations: Path) -> None:
        try:
            self._writer = _connection(self.path)
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = FULL")
            migrate(self._writer, self.path, migrations)
            self._reader = _connection(self.path)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise DanqingError("data_broken", path=str(self.path), reason=str(error)) from None
            if is_full(error):
                raise DanqingError("disk_full", free_mb=0) from None
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise DanqingError("cannot_write", path=str(self.path), reason=str(error)) from None
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DanqingError("disk_full", free_mb=0) from None
            raise DanqingError("cannot_write", path=str(self.path), reason=error.strerror or str(error)) from None

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `work` as one transaction in the writing thread; the result is there when it is on disk."""
        return self._executor.submit(self._transaction, work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`submit` and wait. Not for the event loop's thread once the service runs."""
        return self.submit(work).result()

    async def awrite(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`submit` and wait without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(work))

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._begin()
        try:
            result = work(self._writer)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return result

    def _begin(self) -> None:
        # Nobody else writes here, but somebody may look with a tool of theirs, or copy the file, and hold its lock meanwhile.
        end = time.monotonic() + LOCKED_SECONDS
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() > end:
                    raise

    def rows(self, sql: str, parameters: Sequence[SqlValue] = ()) -> list[Row]:
        """The rows of a SELECT, from any thread."""
        with self._read_lock:
            return self._reader.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[SqlValue] = ()) -> Row | None:
        """The first row of a SELECT, or None."""
        with self._read_lock:
            found: Row | None = self._reader.execute(sql, parameters).fetchone()
        return found

    def close(self) -> None:
        """Finish what was submitted and close. Calls after this raise."""
        self._executor.submit(self._writer.close).result()
        self._executor.shutdown()
        with self._read_lock:
            self._reader.close()


def is_full(error: BaseException) -> bool:
    """Whether SQLite failed because the disk is full (it says so in two ways)."""
    codes = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    code: Any = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.OperationalError) and code is not None and (code & 0xFF) in codes


def is_locked(error: BaseException) -> bool:
    """Whether another process holds the lock of the database."""
    codes = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    code: Any = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.OperationalError) and code is not None and (code & 0xFF) in codes


def _connection(path: Path) -> sqlite3.Connection:
    # People's prompts are nobody else's business; the files that SQLite puts beside take over the mode. A file that is there is
    # not opened: closing it would end the locks of every connection of this process (POSIX), and another program that closes
    # the database would then believe itself the last and take the write-ahead log away from under us.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # isolation_level None: transactions are begun and ended by us alone, also around schema changes.
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def migrate(connection: sqlite3.Connection, path: Path, folder: Path) -> None:
    """Apply the missing migrations, each in one transaction; an existing database is copied aside first.

    Raises:
        DanqingError: `data_newer`.
    """
    scripts = sorted(folder.glob("[0-9]*.sql"))
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(scripts):
        raise DanqingError("data_newer", path=str(path), found=version, known=len(scripts))
    if 0 < version < len(scripts):
        backup(connection, path.with_name(f"{path.name}.v{version}.bak"))
    for number, script in enumerate(scripts[version:], version + 1):
        _apply(connection, number, script.read_text("utf-8"))


def backup(connection: sqlite3.Connection, target: Path) -> None:
    """A consistent copy of the database in `target`, replacing an older one of that name only when complete."""
    half = target.with_name(target.name + ".part")
    half.unlink(missing_ok=True)
    with closing(_connection(half)) as copy:
        connection.backup(copy)
    half.replace(target)


def _apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements(script: str) -> list[str]:
    """A script's statements one by one, each ended by a semicolon (`executescript` would commit in between)."""
    found, pending = [], ""
    for piece in script.split(";")[:-1]:
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return found
