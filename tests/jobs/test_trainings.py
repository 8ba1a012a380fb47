"""Trainings in the queue, with a worker that computes nothing and the fake engine that keeps it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file

from danqing.errors import DanqingError
from danqing.jobs.model import Job, JobState
from danqing.jobs.service import JobService
from danqing.jobs.trainings import GRACE, sweep
from danqing.library.index import Library
from danqing.train.folder import create
from danqing.train.progress import losses
from danqing.train.recipe import TrainRequest

from ..library import layouts
from .support import Running, a_request, drive, until


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (128, 128), (90 * number, 40, 200 - 90 * number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def training(tmp_path: Path, running: Running) -> Running:
    """A service over the miniature model."""
    return lambda **more: running(library=Library(tmp_path / "data"), **more)


@pytest.fixture
def a_recipe(pictures: Path) -> Callable[..., TrainRequest]:
    def made(name: str = "zqx", **fields: Any) -> TrainRequest:
        return TrainRequest(**{"method": "lora", "name": name, "data": str(pictures), "steps": 40, **fields})

    return made


Recipe = Callable[..., TrainRequest]


async def begun(service: JobService, job: Job, step: int = 1) -> None:
    await until(lambda: service.view(job.id).step >= step or service.get(job.id).state.final)
    assert not service.get(job.id).state.final


async def worker_of(service: JobService, job: Job) -> int:
    """The worker's process, by its command line."""
    folder = str(service.training.folder(job.id).path)

    def found() -> int:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"tests.jobs.fake_worker" in words and folder.encode() in words and b"child.py" not in words[3][-8:]:
                return int(path.parent.name)
        return 0

    await until(found)
    return found()


def test_it_trains_while_others_draw_and_gives_way(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training(step=0.02) as service:
            job = await service.training.submit(a_recipe(steps=500), owner="li")
            assert (job.request.kind, job.request.prompt, job.request.model) == (
                "train",
                "zqx",
                "danqing-mini.safetensors",
            )
            await begun(service, job)
            # Longer than the pace of its looks at who draws, and shorter than the training.
            drawn = await service.wait((await service.submit(a_request(steps=100), owner="wang")).id)
            assert drawn.state is JobState.DONE
            seen = [view async for view in service.changes(job.id)]
            assert [view.step for view in seen] == sorted(view.step for view in seen)
            done = service.view(job.id)
            assert (done.job.state, done.progress) == (JobState.DONE, 1.0)
            folder = service.training.folder(job.id)
            assert list(losses(folder.rows())) == list(range(1, 501))
            busy = (folder.path / "busy.log").read_text()
            assert "1" in busy
            assert "0" in busy
            assert service.stats()["trainings_done"] == 1

    drive(main())


def test_deaths_of_worker_engine_and_service_cost_nothing(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training() as service:
            job = await service.training.submit(a_recipe("die-once", steps=150), owner="li")
            await begun(service, job, 90)  # the worker has killed itself at 75
            os.kill(service._link.pid or 0, signal.SIGKILL)
            await begun(service, job, 110)
        assert service.get(job.id).state is JobState.RUNNING or service.view(job.id).step
        async with training() as service:
            done = await service.wait(job.id)
            assert (done.state, done.error) == (JobState.DONE, None)
            rows = service.training.folder(job.id).rows()
            assert list(losses(rows)) == list(range(1, 151))
            assert sum("loss" in row for row in rows) < 160, "it went on from its state"

    drive(main())


def test_pause_holds_over_a_restart_and_lets_the_next_one_go(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training() as service:
            first = await service.training.submit(a_recipe(steps=200), owner="li")
            second = await service.training.submit(a_recipe("other", steps=10), owner="li")
            await begun(service, first)
            assert service.view(second.id).position == 1
            assert [view.job.id for view in service.views("li", active=True)] == [second.id, first.id]
            assert service.views("li", trainings=False) == []
            await service.training.pause(first.id, "li")
            assert (await service.wait(second.id)).state is JobState.DONE
            view = service.view(first.id)
            assert (view.job.state, view.paused) == (JobState.QUEUED, True)
            assert 0 < view.step < 200
        async with training() as service:
            await until(lambda: service.readiness().ready)
            await asyncio.sleep(0.3)
            view = service.view(first.id)
            assert (view.job.state, view.paused) == (JobState.QUEUED, True)
            with pytest.raises(DanqingError, match="no job"):
                await service.training.resume(first.id, "wang")
            await service.training.resume(first.id, "li")
            assert (await service.wait(first.id)).state is JobState.DONE

    drive(main())


def test_cancel_ends_the_worker_and_takes_the_folder_away(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training() as service:
            job = await service.training.submit(a_recipe(steps=5000), owner="li")
            waits = await service.training.submit(a_recipe("waits"), owner="li")
            await begun(service, job)
            pid, folder = await worker_of(service, job), service.training.folder(job.id).path
            for one in (waits, job):
                await service.cancel(one.id)
                assert (await service.wait(one.id)).state is JobState.CANCELLED
            await until(lambda: not folder.exists() and not Path(f"/proc/{pid}").exists())
            assert not service.training.folder(waits.id).path.exists()

    drive(main())


def test_a_failure_is_named_and_may_be_resumed(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training() as service:
            job = await service.training.submit(a_recipe("fail"), owner="li")
            over = await service.wait(job.id)
            assert over.state is JobState.FAILED
            assert over.error is not None
            assert over.error.code == "train_diverged"
            again = await service.training.resume(job.id, "li")
            assert again.id != job.id
            assert (await service.wait(again.id)).state is JobState.DONE
            assert sum("loss" in row for row in service.training.folder(again.id).rows()) == 40

    drive(main())


def test_one_that_only_dies_is_given_up(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training(settings={"engine_restart_seconds": 0.01}) as service:
            job = await service.training.submit(a_recipe("die"), owner="li")
            over = await service.wait(job.id)
            assert over.error is not None
            assert (over.state, over.error.code) == (JobState.FAILED, "train_lost")

    drive(main())


def test_what_is_refused_before_it_waits(training: Running, a_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    async def refused(service: JobService, recipe: TrainRequest, owner: str = "li") -> str:
        with pytest.raises(DanqingError) as caught:
            await service.training.submit(recipe, owner=owner)
        return caught.value.code

    async def main() -> None:
        async with training(settings={"limit_trainings_per_owner": 2}) as service:
            await service.pause()
            assert await refused(service, a_recipe(data=str(tmp_path / "empty"))) == "train_no_pictures"
            assert await refused(service, a_recipe(model="nothing.safetensors")) == "unknown_model"
            huge = a_recipe(method="dreambooth", batch_size=256, resolution=2048)
            assert await refused(service, huge) == "train_room"
            odd = a_recipe(method="hypernetwork", hypernetwork_sizes=(7,))
            assert await refused(service, odd) == "invalid_field"
            if find_spec("bitsandbytes") is None:
                assert await refused(service, a_recipe(optimizer="adamw8bit")) == "train_needs"
            xl = service.data / "models" / "Stable-diffusion" / "xl.safetensors"
            xl.parent.mkdir(parents=True, exist_ok=True)
            save_file(layouts.tensors(layouts.SDXL), xl)
            assert await refused(service, a_recipe(model="xl")) == "train_family"
            xl.unlink()
            await service.training.submit(a_recipe(), owner="li")
            assert await refused(service, a_recipe()) == "train_name_taken"
            await service.training.submit(a_recipe("b"), owner="li")
            assert await refused(service, a_recipe("c")) == "too_many_jobs"
            await service.training.submit(a_recipe("c"), owner="wang")
            assert len(list((service.data / "training").iterdir())) == 3
            same = await service.training.submit(a_recipe("d"), owner="zhao", job_id="ab" * 16)
            with pytest.raises(DanqingError):
                await service.training.submit(a_recipe("d"), owner="zhao", job_id=same.id)

    drive(main())


def test_forgotten_trainings_leave_no_folder(training: Running, a_recipe: Recipe) -> None:
    async def main() -> None:
        async with training() as service:
            old, new = [await service.training.submit(a_recipe(name, steps=2), owner="li") for name in ("a", "b")]
            by_hand = create(service.data, a_recipe("c"))
            await service.wait(old.id)
            await service.wait(new.id)
            service._database.write(lambda c: c.execute("DELETE FROM job WHERE id = ?", (old.id,)))
            assert sweep(service.data, service._database, time.time()) == 0, "a folder is there before its job is"
            assert sweep(service.data, service._database, time.time() + GRACE) == 1
            kept = {path.name for path in (service.data / "training").iterdir()}
            assert kept == {service.training.folder(new.id).id, by_hand.id}

    drive(main())
