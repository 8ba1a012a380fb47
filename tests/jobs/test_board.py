"""Places and times: arithmetic of the queue, without an engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danqing.jobs.board import Board, Live
from danqing.jobs.model import Job, JobState
from danqing.jobs.speed import Speed, work_of
from danqing.jobs.store import StoredJob

from .support import a_request


def stored(seq: int, **fields: Any) -> StoredJob:
    job = Job(f"job{seq}", "li", a_request(width=512, height=512, steps=10, **fields), JobState.QUEUED, 0.0)
    return StoredJob(job, seq, "", True, 0, 0.0)


def board_of(count: int) -> tuple[Board, list[Live]]:
    board = Board()
    return board, [board.add(stored(seq)) for seq in range(count)]


def test_speed_is_work_over_busy_time() -> None:
    speed = Speed()
    speed.advance(5, 100.0)
    assert speed.seconds_per_work is None
    for second in range(1, 20):
        speed.advance(10, 100.0 + second)
    assert speed.seconds_per_work == pytest.approx(0.1)
    speed.idle()
    speed.advance(10, 1000.0)
    speed.advance(10, 1001.0)
    assert speed.seconds_per_work == pytest.approx(0.1)


def test_work_counts_steps_pictures_and_pixels() -> None:
    assert work_of(a_request(steps=10, width=512, height=512)) == 10
    assert work_of(a_request(steps=10, width=1024, height=512, n_iter=2, batch_size=3)) == 120


def test_eta_of_running_and_waiting_jobs() -> None:
    board, lives = board_of(4)
    assert board.view(lives[0]).eta is None
    board.speed.seconds_per_work = 2.0
    for live in lives[:2]:
        board.start(live, live.job.id, 0.0)
    lives[0].step, lives[0].steps = 6, 10
    # 4 and 10 units left share the engine: the shorter is over after 4 + 4, the longer after 4 + 10.
    etas = [board.view(live).eta for live in lives]
    assert etas == pytest.approx([16.0, 28.0, 2.0 * (14 + 10), 2.0 * (14 + 20)])


def test_places_follow_the_order_of_arrival() -> None:
    board, lives = board_of(4)
    assert [board.view(live).position for live in lives] == [0, 1, 2, 3]
    board.start(lives[0], "a", 0.0)
    board.start(lives[1], "b", 0.0)
    assert [board.view(live).position for live in lives] == [0, 0, 2, 3]
    board.requeue(lives[0])
    assert [board.view(live).position for live in lives] == [1, 0, 2, 3]
    board.remove(lives[1])
    board.remove(lives[2])
    assert [board.view(live).position for live in (lives[0], lives[3])] == [0, 1]
    assert lives[2].over.is_set()


def test_a_change_of_the_queue_wakes_those_who_wait() -> None:
    board, lives = board_of(3)
    events = [asyncio.Event() for _ in lives]
    for live, event in zip(lives, events, strict=True):
        live.watchers.add(event)
    board.start(lives[0], "a", 0.0)
    assert [event.is_set() for event in events] == [True] * 3
