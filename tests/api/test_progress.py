"""Progress and interrupting, of the caller's own jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from danqing.api.progress import current, fraction
from danqing.jobs.model import Job, JobState, JobView
from danqing.request import GenerateRequest
from tests.api.support import draw, image_of
from tests.conftest import Server

LONG: dict[str, Any] = {"steps": 150, "width": 256, "height": 192, "seed": 3}


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def view(state: JobState, step: int = 0, steps: int = 0, created: float = 0.0, **fields: Any) -> JobView:
    started = created if state is JobState.RUNNING else None
    job = Job("id", "local", GenerateRequest(**fields), state, created, started)
    return JobView(job, step=step, steps=steps)


@pytest.mark.parametrize(
    ("step", "steps", "n_iter", "expected"),
    [(0, 40, 2, 0.01), (10, 40, 2, 0.26), (20, 40, 2, 0.51), (40, 40, 2, 1.0), (5, 20, 1, 0.26)],
)
def test_arithmetic(step: int, steps: int, n_iter: int, expected: float) -> None:
    assert fraction(view(JobState.RUNNING, step, steps, n_iter=n_iter)) == pytest.approx(expected)


def test_which_job_is_told_of() -> None:
    late, early = view(JobState.RUNNING, created=5), view(JobState.RUNNING, created=1)
    waiting = view(JobState.QUEUED, created=0)
    assert current([late, waiting, early]) is early
    assert current([waiting]) is waiting
    assert current([]) is None
    assert fraction(waiting) == 0


def test_idle(client: httpx.Client) -> None:
    draw(client)
    told = client.get("/sdapi/v1/progress").json()
    assert list(told) == ["progress", "eta_relative", "state", "current_image", "textinfo"]
    assert (told["progress"], told["eta_relative"], told["current_image"]) == (0.0, 0.0, None)
    assert told["state"]["job_count"] == 0
    assert set(told["state"]) == {
        "skipped",
        "interrupted",
        "stopping_generation",
        "job",
        "job_count",
        "job_timestamp",
        "job_no",
        "sampling_step",
        "sampling_steps",
    }


class Background:
    """A txt2img call in a thread."""

    def __init__(self, server: Server, **fields: Any) -> None:
        self.answer: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, args=(server, fields))
        self._thread.start()

    def _run(self, server: Server, fields: dict[str, Any]) -> None:
        with server.client() as client:
            self.answer = draw(client, **fields)

    def join(self) -> dict[str, Any]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.answer


def test_progress_then_interrupt(server: Server, client: httpx.Client) -> None:
    background = Background(server, **LONG)
    seen: list[dict[str, Any]] = []
    end = time.monotonic() + 40
    while time.monotonic() < end:
        told = client.get("/sdapi/v1/progress").json()
        seen.append(told)
        if told["current_image"]:
            break
        time.sleep(0.05)
    last = seen[-1]
    assert image_of(last["current_image"]).size == (256, 192)
    assert 0 < last["progress"] < 1
    assert last["eta_relative"] > 0
    assert last["state"]["job_count"] == 1
    assert last["state"]["sampling_steps"] == 150
    assert client.get("/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
    assert client.post("/sdapi/v1/interrupt").json() == {}
    answer = background.join()
    assert image_of(answer["images"][0]).size == (256, 192)
    assert client.get("/sdapi/v1/progress").json()["state"]["interrupted"] is True
    draw(client)
    assert client.get("/sdapi/v1/progress").json()["state"]["interrupted"] is False
    values = [told["progress"] for told in seen]
    assert values == sorted(values)


def test_skip(server: Server, client: httpx.Client) -> None:
    background = Background(server, **LONG)
    end = time.monotonic() + 30
    while client.get("/sdapi/v1/progress").json()["progress"] == 0:
        assert time.monotonic() < end
        time.sleep(0.02)
    answer = client.post("/sdapi/v1/skip")
    assert (answer.status_code, answer.json()) == (200, None)
    background.join()


def test_nothing_to_interrupt(client: httpx.Client) -> None:
    assert client.post("/sdapi/v1/interrupt").json() == {}
    assert client.post("/sdapi/v1/skip").json() is None
