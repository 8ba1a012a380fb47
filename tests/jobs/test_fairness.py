"""Fair shares: nobody waits behind somebody's hundred pictures, places tell the truth, owners order their own jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from danqing.errors import DanqingError
from danqing.jobs.board import Board
from danqing.jobs.fairness import Shares, weights
from danqing.jobs.model import Job, JobState
from danqing.jobs.store import StoredJob

from .support import Running, a_request, drive, until


def stored(seq: int, owner: str, **fields: Any) -> StoredJob:
    job = Job(f"{owner}{seq}", owner, a_request(width=512, height=512, steps=10, **fields), JobState.QUEUED, 0.0)
    return StoredJob(job, seq, "", True, 0, 0.0, rank=seq)


def order(board: Board) -> list[str]:
    return [live.job.id for live in board.queued()]


def played(board: Board) -> list[str]:
    """What is really handed out, one after another."""
    found = []
    while (live := board.next(0.0)) is not None:
        board.start(live, live.job.id, 0.0)
        found.append(live.job.id)
    return found


def test_owners_take_turns_by_work_not_by_jobs() -> None:
    board = Board()
    for seq in range(3):
        board.add(stored(seq, "a", n_iter=4))
    for seq in range(3, 11):
        board.add(stored(seq, "b"))
    turns = played(board)
    assert [name[0] for name in turns] == list("ab" + "bbb" + "ab" + "bbb" + "a")
    assert turns == sorted(turns, key=turns.index)


def test_places_and_times_are_those_of_the_handing_out() -> None:
    board = Board({"c": 3.0})
    for seq, owner in enumerate("aaaabbcccc"):
        board.add(stored(seq, owner, n_iter=1 + seq % 3))
    board.speed.seconds_per_work = 1.0
    foretold = order(board)
    assert [board.view(live).position for live in board.queued()] == list(range(10))
    etas = [board.view(live).eta or 0 for live in board.queued()]
    assert etas == sorted(etas)
    assert played(board) == foretold


def test_a_newcomer_is_next_and_gains_nothing_by_having_waited() -> None:
    shares = Shares()
    for _ in range(100):
        shares.begin("a", 1)
    assert shares.served("b") == 99
    shares.begin("b", 1)
    assert shares.served("a") == shares.served("b") == 100


def test_work_that_was_not_done_is_given_back() -> None:
    board = Board()
    lives = [board.add(stored(seq, owner)) for seq, owner in enumerate("aab")]
    board.start(lives[0], "t", 0.0)
    assert order(board) == ["b2", "a1"]
    board.remove(lives[0], undone=True)
    assert order(board) == ["a1", "b2"]


def test_weights_are_read_and_what_is_none_is_left_out() -> None:
    assert weights("li=2, bot=0.5,nonsense, x=y, z=0") == {"li": 2.0, "bot": 0.5, "z": 0.01}
    board = Board(weights("a=2"))
    for seq, owner in enumerate("aaaabb"):
        board.add(stored(seq, owner))
    assert [name[0] for name in played(board)] == list("abaaba")


def test_priority_goes_first_whoever_owns_it() -> None:
    board = Board()
    lives = [board.add(stored(seq, owner)) for seq, owner in enumerate("aabb")]
    board.move(lives[3], priority=5)
    assert order(board) == ["b3", "a0", "a1", "b2"] == played(board)


def submitted(data: Path) -> list[str]:
    return [line.split()[1] for line in (data / "engine.log").read_text().splitlines() if line.startswith("submit")]


def test_nobody_waits_behind_a_hundred_pictures(running: Running, tmp_path: Path) -> None:
    log = tmp_path / "data" / "engine.log"

    async def work() -> None:
        async with running(step=0.005, settings={"engine_jobs_in_flight": 4}) as service:
            crowd = [await service.submit(a_request(), owner="a") for _ in range(100)]
            await until(lambda: log.read_text().count("drawn") > 8)
            for owner in "bcd":
                before = log.read_text().count("drawn")
                job = await service.submit(a_request(), owner=owner)
                await until(lambda job=job: job.id in submitted(tmp_path / "data"))
                begun = log.read_text().partition(f"submit {job.id}\n")[0]
                # Four are drawn at once: two picture times are eight pictures.
                assert begun.count("drawn") - before <= 8
                assert (await service.wait(job.id)).state is JobState.DONE
            assert service.stats()["jobs_waiting"] > 50
            for job in crowd:
                await service.cancel(job.id)

    drive(work())


def test_with_the_engine_full_each_newcomer_gets_one_job(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(step=0.2, settings={"engine_jobs_in_flight": 2}) as service:
            jobs = [await service.submit(a_request(steps=100), owner="a") for _ in range(4)]
            await until(lambda: len(submitted(tmp_path / "data")) == 2)
            jobs += [await service.submit(a_request(steps=100), owner="b") for _ in range(2)]
            await until(lambda: len(submitted(tmp_path / "data")) == 3)
            await asyncio.sleep(0.1)
            assert submitted(tmp_path / "data") == [jobs[0].id, jobs[1].id, jobs[4].id]

    drive(work())


def test_an_owner_orders_own_jobs_and_nobody_elses(running: Running) -> None:
    async def work() -> None:
        async with running(settings={"engine_external": True}) as service:
            jobs = [await service.submit(a_request(f"{n}"), owner="li") for n in range(4)]
            other = await service.submit(a_request(), owner="wang")
            await service.reorder(jobs[3].id, 0, owner="li")
            await service.reorder(jobs[0].id, 99)
            mine = [live.job.id for live in service._board.queued_of("li")]
            assert mine == [jobs[3].id, jobs[1].id, jobs[2].id, jobs[0].id]
            for act in (service.interrupt, service.skip, service.cancel, service.wait):
                with pytest.raises(DanqingError, match="no job"):
                    await act(other.id, owner="li")
            with pytest.raises(DanqingError, match="no job"):
                await service.reorder(other.id, 0, owner="li")
            for look in (service.get, service.view):
                with pytest.raises(DanqingError, match="no job"):
                    look(other.id, owner="li")
            await service.prioritise(other.id, 1)
            assert service.view(other.id).position == 0
        async with running(settings={"engine_external": True}) as service:
            assert [live.job.id for live in service._board.queued()] == [other.id, *mine]

    drive(work())


def test_one_owner_cannot_fill_the_queue(running: Running) -> None:
    async def work() -> None:
        async with running(settings={"engine_external": True, "limit_jobs_per_owner": 3}) as service:
            results = await asyncio.gather(
                *(service.submit(a_request(), owner="li") for _ in range(5)), return_exceptions=True
            )
            refused = [result for result in results if isinstance(result, DanqingError)]
            assert [error.code for error in refused] == ["too_many_jobs"] * 2
            await service.submit(a_request(), owner="wang")

    drive(work())


def test_a_paused_queue_begins_nothing_also_after_a_restart(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(step=0.02) as service:
            running_job = await service.submit(a_request(steps=10), owner="li")
            await until(lambda: service.view(running_job.id).step > 0)
            assert await service.drain(30)
            assert service.get(running_job.id).state is JobState.DONE
            job = await service.submit(a_request(), owner="li")
        async with running() as service:
            await until(lambda: service.readiness().ready)
            assert service.paused
            await asyncio.sleep(0.1)
            assert service.get(job.id).state is JobState.QUEUED
            await service.resume()
            assert (await service.wait(job.id)).state is JobState.DONE
            assert submitted(tmp_path / "data") == [running_job.id, job.id]

    drive(work())
