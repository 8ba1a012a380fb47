"""Migrations, backups, transactions and threads of the one SQLite file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from danqing.database import Database, is_locked, statements
from danqing.errors import DanqingError
from danqing.jobs.store import ACTIVE, MIGRATIONS


def migrations(folder: Path, *scripts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, script in enumerate(scripts, 1):
        (folder / f"{number:04d}_step.sql").write_text(script, "utf-8")
    return folder


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def test_a_new_file_is_durable_and_current(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", MIGRATIONS)
    pragmas = database.write(
        lambda c: [
            c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )
    assert pragmas == ["wal", 2, 1]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("a.db*")} == {0o600}
    database.close()
    assert version(tmp_path / "a.db") == len(list(MIGRATIONS.glob("*.sql")))
    assert not list(tmp_path.glob("*.bak"))


def test_migrations_run_once_and_keep_a_copy_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first = migrations(tmp_path / "m", "CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    Database.open(path, first).close()
    both = migrations(
        first, "CREATE TABLE t (x); INSERT INTO t VALUES (1);", "ALTER TABLE t ADD y; UPDATE t SET y = 2;"
    )
    for _ in range(2):
        database = Database.open(path, both)
        assert [tuple(row) for row in database.rows("SELECT x, y FROM t")] == [(1, 2)]
        database.close()
    assert version(path) == 2
    assert version(tmp_path / "a.db.v1.bak") == 1
    assert len(list(tmp_path.glob("*.bak"))) == 1


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database.open(path, migrations(tmp_path / "m", "CREATE TABLE t (x);")).close()
    bad = migrations(tmp_path / "m", "CREATE TABLE t (x);", "INSERT INTO t VALUES (1); INSERT INTO missing VALUES (1);")
    with pytest.raises(sqlite3.OperationalError, match="missing"):
        Database.open(path, bad)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert version(path) == 1


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DanqingError) as caught:
        Database.open(tmp_path / "a.db", MIGRATIONS)
    assert caught.value.code == "data_newer"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database " * 1000)
    with pytest.raises(DanqingError) as caught:
        Database.open(tmp_path / "a.db", MIGRATIONS)
    assert caught.value.code == "data_broken"


def test_a_failed_write_is_undone_and_the_next_works(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", migrations(tmp_path / "m", "CREATE TABLE t (x UNIQUE);"))

    def twice(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        database.write(twice)
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (2)"))
    assert [row["x"] for row in database.rows("SELECT x FROM t")] == [2]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.rows("DELETE FROM t")
    database.close()


def test_statements_are_split_outside_of_strings() -> None:
    assert statements("-- a; b\nSELECT ';';\nSELECT 2;\n") == ["-- a; b\nSELECT ';';", "SELECT 2;"]


def test_the_queue_is_read_by_an_index(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", MIGRATIONS)
    plan = " ".join(row["detail"] for row in database.rows("EXPLAIN QUERY PLAN " + ACTIVE))
    assert "job_by_state" in plan
    database.close()


def test_a_write_waits_while_another_process_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.open(tmp_path / "a.db", migrations(tmp_path / "m", "CREATE TABLE t (x);"))
    database._executor.submit(database._writer.execute, "PRAGMA busy_timeout = 1").result()
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"))
    release.join()
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("danqing.database.LOCKED_SECONDS", 0.05)
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.write(lambda connection: connection.execute("INSERT INTO t VALUES (2)"))
    assert is_locked(caught.value)
    other.execute("ROLLBACK")
    other.close()
    assert [row["x"] for row in database.rows("SELECT x FROM t")] == [1]
    database.close()


LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
connection.close()
"""


def test_another_program_that_looks_takes_nothing_away(tmp_path: Path) -> None:
    """Whoever closes a database last removes its log: somebody who looked in between must not take himself for the last."""
    path = tmp_path / "a.db"
    database = Database.open(path, migrations(tmp_path / "m", "CREATE TABLE t (x);"))
    for number in range(3):
        database.write(lambda connection, number=number: connection.execute("INSERT INTO t VALUES (?)", (number,)))
        seen = subprocess.run([sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
        assert int(seen.stdout) == number + 1
        assert path.with_name("a.db-wal").exists()
    database.close()
