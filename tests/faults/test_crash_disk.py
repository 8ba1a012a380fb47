"""What fsync promised: jobs and pictures on a disk that records its writes, after the machine died at many moments."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from bench import crash_disk
from danqing.database import Database
from danqing.gallery import upkeep
from danqing.gallery.reading import read_image
from danqing.gallery.store import Gallery
from danqing.jobs.model import Job, JobState
from danqing.jobs.store import MIGRATIONS, JobStore
from tests.gallery.support import new_picture
from tests.jobs.support import a_request

POINTS, JOBS = 16, 30


@pytest.fixture(autouse=True)
def possible() -> None:
    if reason := crash_disk.why_not():
        pytest.skip(reason)


def test_what_was_acknowledged_is_there_after_any_crash(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    promised: list[tuple[int, str, str]] = []
    """Moment, job and picture ("" where it had none yet)."""
    with crash_disk.recorded(tmp_path) as (mounted, log):
        base, start = snapshot(mounted, log, tmp_path)
        data = mounted / "data"
        data.mkdir()
        database = Database.open(data / "danqing.db", MIGRATIONS)
        store, gallery = JobStore(database), Gallery(data, database)
        for number in range(JOBS):
            job = Job(f"{number:032x}", "li", a_request(), JobState.QUEUED, time.time())
            asyncio.run(store.insert(job, client="", save=True))
            promised.append((log.moment(), job.id, ""))
            picture = gallery.add(new_picture(job=job.id, side=rng.randint(8, 200)))
            promised.append((log.moment(), job.id, picture.id))
        database.close()
    for moment in crash_disk.moments(log, start, POINTS, rng):
        log.crash(start, moment, base, tmp_path / "crash.img", rng)
        with crash_disk.mounted_image(tmp_path / "crash.img", tmp_path / "after") as after:
            due = [(job, picture) for at, job, picture in promised if at <= moment]
            assert missing(after / "data", due) == [], (seed, moment)


def missing(data: Path, due: list[tuple[str, str]]) -> list[str]:
    """What a start on this folder does not find, of jobs and pictures that were acknowledged."""
    if not due:
        return []
    database = Database.open(data / "danqing.db", MIGRATIONS)
    try:
        upkeep.recover(data, database)
        whole = database.row("PRAGMA integrity_check")
        assert whole
        found = [] if whole[0] == "ok" else [str(whole[0])]
        jobs, gallery = {stored.job.id for stored in JobStore(database).active()}, Gallery(data, database)
        found += [job for job, _ in due if job not in jobs]
        shown = {picture.id: picture for picture in gallery.pictures(None, limit=10_000)}
        found += [picture for _, picture in due if picture and picture not in shown]
        for picture in shown.values():
            text, _ = read_image(picture.path.read_bytes())
            found += [] if text == picture.infotext else [str(picture.path)]
        return found
    finally:
        database.close()


def snapshot(mounted: Path, log: crash_disk.Log, folder: Path) -> tuple[Path, int]:
    subprocess.run(["sync", "-f", str(mounted)], check=True)
    start, base = log.moment(), folder / "base.img"
    subprocess.run(["cp", "--sparse=always", str(log.path), str(base)], check=True)
    return base, start


def test_the_disk_tells_who_does_not_sync(tmp_path: Path) -> None:
    """The same with a database that promises nothing: what it says is written is lost."""
    rng, promised = random.Random(1), []
    with crash_disk.recorded(tmp_path) as (mounted, log):
        base, start = snapshot(mounted, log, tmp_path)
        with contextlib.closing(sqlite3.connect(mounted / "a.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("CREATE TABLE t (x)")
            for number in range(20):
                connection.execute("INSERT INTO t VALUES (?)", (number,))
                promised.append(log.moment())
            moment = log.moment()
    log.crash(start, moment, base, tmp_path / "crash.img", rng)
    with crash_disk.mounted_image(tmp_path / "crash.img", tmp_path / "after") as after:
        rows = 0
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(after / "a.db")) as connection:
            rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    assert rows < len(promised)
