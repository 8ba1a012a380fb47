"""Housekeeping, the file of the first version brought forward, and the warning before the disk is full."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from danqing.database import statements
from danqing.jobs.housekeeping import Housekeeping
from danqing.jobs.model import JobState
from danqing.jobs.store import MIGRATIONS

from .support import Running, a_request, drive

FIRST_JOB = """
INSERT INTO job (id, owner, client, request, save, state, created) VALUES (?, 'li', '', ?, 1, ?, 1.0)
"""


def first_version(path: Path) -> None:
    """A file as the first version left it: two jobs waiting, one done."""
    with sqlite3.connect(path) as connection:
        for statement in statements((MIGRATIONS / "0001_first.sql").read_text("utf-8")):
            connection.execute(statement)
        request = a_request(model="fake.safetensors").model_dump_json()
        for number, state in enumerate(("queued", "done", "running")):
            connection.execute(FIRST_JOB, (f"{number}" * 32, request, state))
        connection.execute("PRAGMA user_version = 1")


def test_the_file_of_the_first_version_is_brought_forward_and_kept(running: Running, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    first_version(data / "danqing.db")

    async def work() -> None:
        async with running() as service:
            for number in (0, 2):
                job = await service.wait(f"{number}" * 32)
                assert (job.state, len(job.pictures)) == (JobState.DONE, 1)
            assert service.get("1" * 32).state is JobState.DONE

    drive(work())
    with sqlite3.connect(data / "danqing.db.v1.bak") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM job").fetchone() == (3,)
    with sqlite3.connect(data / "danqing.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(list(MIGRATIONS.glob("*.sql"))),)


def test_jobs_that_are_long_over_are_forgotten_and_their_pictures_stay(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(settings={"job_days": 2, "engine_external": False}) as service:
            done = await service.wait((await service.submit(a_request(), owner="li")).id)
            await service.pause()
            waiting = await service.submit(a_request(), owner="li")
            house = Housekeeping(service.data, service._settings, service._database, service._board)
            house.round(set(), time.time() + 86400)
            assert service.get(done.id).state is JobState.DONE
            house.round(set(), time.time() + 3 * 86400)
            assert [view.job.id for view in service.views()] == [waiting.id]
            assert service.gallery.get(done.pictures[0]).owner == "li"

    drive(work())


def test_a_disk_that_fills_up_is_told_before_jobs_are_refused(running: Running) -> None:
    async def work() -> None:
        async with running(settings={"disk_warn_mb": 10**7}) as service:
            warning = service.readiness().warning
            assert warning is not None
            assert warning.code == "disk_low"
            assert service.stats()["disk_low"] == 1
            assert (await service.wait((await service.submit(a_request(), owner="li")).id)).state is JobState.DONE
        async with running(settings={"disk_warn_mb": 0}) as service:
            assert service.readiness().warning is None

    drive(work())
