"""The service over a real database and a real child process that speaks the engine's protocol."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from danqing.errors import DanqingError
from danqing.jobs.model import JobState, JobView
from danqing.plugins import hookimpl
from danqing.request import GenerateRequest

from .fake_engine import pixels
from .support import Running, a_request, drive, make_service, until


def test_submit_draw_done(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running() as service:
            job = await service.submit(a_request(n_iter=2), owner="li", client="page")
            assert job.state is JobState.QUEUED
            assert job.request.model == "fake.safetensors"
            done = await service.wait(job.id)
            assert (done.state, done.error, done.interrupted) == (JobState.DONE, None, False)
            pictures = [service.gallery.get(picture) for picture in done.pictures]
            assert [(p.index, p.seed, p.owner, p.job) for p in pictures] == [(0, 7, "li", job.id), (1, 8, "li", job.id)]
            for picture in pictures:
                with Image.open(picture.path) as image:
                    assert image.tobytes() == pixels(picture.seed, 64, 64)
                    assert image.text == {"parameters": picture.infotext}
            assert pictures[0].path.parent.parent == tmp_path / "data" / "outputs" / "txt2img-images"
            assert sorted(picture.path.name[:5] for picture in pictures) == ["00000", "00001"]
            assert service.stats()["jobs_done"] == 1
            assert service.readiness().ready
            assert {"engine", "torch", "model"} <= {phase.name for phase in service.readiness().phases}

    drive(work())


def test_random_seed_is_fixed_before_drawing(running: Running) -> None:
    async def work() -> None:
        async with running() as service:
            job = await service.submit(a_request(seed=-1), owner="li")
            assert job.request.seed >= 0
            done = await service.wait(job.id)
            assert service.gallery.get(done.pictures[0]).seed == job.request.seed

    drive(work())


def test_views_progress_preview_and_end(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.05) as service:
            job = await service.submit(a_request(steps=8), owner="li")
            seen: list[JobView] = [view async for view in service.changes(job.id)]
            assert seen[0].job.state in (JobState.QUEUED, JobState.RUNNING)
            steps = [view.step for view in seen if view.job.state is JobState.RUNNING]
            assert steps == sorted(steps)
            assert len(set(steps)) > 4
            assert any(view.preview and view.preview.startswith(b"\x89PNG") for view in seen)
            ids = [view.preview_id for view in seen if view.job.state is JobState.RUNNING]
            assert ids == sorted(ids)
            assert any(view.eta is not None and view.eta < 60 for view in seen)
            assert seen[-1].job.state is JobState.DONE
            assert seen[-1].progress == 1.0
            after = [view.job.state async for view in service.changes(job.id)]
            assert after == [JobState.DONE]

    drive(work())


def test_places_in_the_queue_and_order(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(step=0.02, settings={"engine_jobs_in_flight": 1}) as service:
            jobs = [await service.submit(a_request(f"job {n}"), owner="li") for n in range(4)]
            await until(lambda: service.view(jobs[0].id).job.state is JobState.RUNNING)
            assert [service.view(job.id).position for job in jobs] == [0, 1, 2, 3]
            await service.cancel(jobs[1].id)
            assert [service.view(job.id).position for job in jobs] == [0, 0, 1, 2]
            assert [view.job.id for view in service.views("li", active=True)] == [jobs[3].id, jobs[2].id, jobs[0].id]
            assert service.views("wang") == []
            for job in jobs:
                await service.wait(job.id)
            drawn = [
                line.split()[1]
                for line in (tmp_path / "data" / "engine.log").read_text().splitlines()
                if "submit" in line
            ]
            assert drawn == [jobs[0].id, jobs[2].id, jobs[3].id]
            assert service.get(jobs[1].id).state is JobState.CANCELLED

    drive(work())


def test_interrupt_keeps_what_is_there(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.05, settings={"engine_jobs_in_flight": 1}) as service:
            job = await service.submit(a_request(steps=50, n_iter=3), owner="li")
            waiting = await service.submit(a_request(), owner="li")
            await until(lambda: service.view(job.id).step > 1)
            await service.interrupt(waiting.id)
            assert (await service.wait(waiting.id)).state is JobState.CANCELLED
            await service.interrupt(job.id)
            done = await service.wait(job.id)
            assert (done.state, done.interrupted, len(done.pictures)) == (JobState.DONE, True, 1)
            await service.interrupt(job.id)  # over: nothing happens
            assert (await service.wait(job.id)).state is JobState.DONE

    drive(work())


def test_cancel_a_running_job(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.05) as service:
            job = await service.submit(a_request(steps=100), owner="li")
            await until(lambda: service.view(job.id).step > 1)
            await service.cancel(job.id)
            done = await service.wait(job.id)
            assert (done.state, done.pictures) == (JobState.CANCELLED, ())
            assert (await service.wait((await service.submit(a_request(), owner="li")).id)).state is JobState.DONE

    drive(work())


@pytest.mark.parametrize(
    ("prompt", "code"), [("out-of-memory", "out_of_memory"), ("malformed", "internal"), ("silent", "internal")]
)
def test_a_failed_job_has_an_error_and_the_next_is_drawn(running: Running, prompt: str, code: str) -> None:
    async def work() -> None:
        async with running() as service:
            bad = await service.submit(a_request(prompt), owner="li")
            good = await service.submit(a_request(), owner="li")
            failed = await service.wait(bad.id)
            assert failed.state is JobState.FAILED
            assert failed.error is not None
            assert failed.error.code == code
            assert (await service.wait(good.id)).state is JobState.DONE
            assert service.stats()["engine_starts"] == 1

    drive(work())


def test_unknown_jobs_are_named(running: Running) -> None:
    async def work() -> None:
        async with running() as service:
            for call in (service.get, service.view, lambda job: service.gallery.get(job)):
                with pytest.raises(DanqingError) as caught:
                    call("nope")
                assert caught.value.code in ("unknown_job", "unknown_picture")
            for act in (service.wait, service.interrupt, service.cancel):
                with pytest.raises(DanqingError, match="no job"):
                    await act("nope")

    drive(work())


def test_one_more_than_the_queue_holds_is_refused(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.05, settings={"engine_jobs_in_flight": 1, "limit_queue": 2}) as service:
            first = await service.submit(a_request(steps=50), owner="li")
            await until(lambda: service.view(first.id).job.state is JobState.RUNNING)
            results = await asyncio.gather(
                *(service.submit(a_request(), owner="li") for _ in range(5)), return_exceptions=True
            )
            refused = [result for result in results if isinstance(result, DanqingError)]
            assert [error.code for error in refused] == ["queue_full"] * 3
            await service.cancel(first.id)

    drive(work())


def test_unsaved_pictures_are_temporary(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running() as service:
            job = await service.wait((await service.submit(a_request(), owner="li", save=False)).id)
            picture = service.gallery.get(job.pictures[0])
            assert picture.temporary
            assert picture.path.is_relative_to(tmp_path / "data" / "outputs" / "api-temp")

    drive(work())


def test_a_second_service_on_the_same_data_is_refused(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running():
            with pytest.raises(DanqingError) as caught:
                await make_service(tmp_path / "data").start()
            assert caught.value.code == "data_locked"
        async with running():
            pass

    drive(work())


def test_the_engine_is_gone_after_stop(running: Running) -> None:
    async def work() -> None:
        async with running() as service:
            await until(lambda: service.readiness().ready)
            pid = service._link.pid
            assert pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    drive(work())


def test_stop_and_start_resume_the_queue(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.05, settings={"engine_jobs_in_flight": 2}) as service:
            jobs = [await service.submit(a_request(f"job {n}", steps=20), owner="li") for n in range(4)]
            await until(lambda: service.view(jobs[1].id).step > 1)
            waiter = asyncio.create_task(service.wait(jobs[0].id))
            await asyncio.sleep(0)
        with pytest.raises(DanqingError) as caught:
            await waiter
        assert caught.value.code == "engine_not_ready"
        async with running() as service:
            assert {view.job.id for view in service.views(active=True)} == {job.id for job in jobs}
            for job in jobs:
                done = await service.wait(job.id)
                assert (done.state, len(done.pictures), done.attempts) == (JobState.DONE, 1, 0)

    drive(work())


def test_kill_9_of_the_engine_redraws(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.05) as service:
            jobs = [await service.submit(a_request(steps=10, n_iter=2), owner="li") for _ in range(3)]
            await until(lambda: all(len(service.get(job.id).pictures) == 1 for job in jobs))
            os.kill(service._link.pid, signal.SIGKILL)
            await until(lambda: not service.readiness().ready)
            for job in jobs:
                done = await service.wait(job.id)
                assert (done.state, len(done.pictures), done.attempts) == (JobState.DONE, 2, 1)
                assert len(service.gallery.of_job(job.id)) == 2
            assert len(service.gallery.pictures(None, limit=100)) == 6

    drive(work())


def test_a_job_that_kills_the_engine_is_given_up_alone(running: Running) -> None:
    async def work() -> None:
        async with running() as service:
            company = [await service.submit(a_request(f"good {n}", steps=20), owner="li") for n in range(3)]
            poison = await service.submit(a_request("die", steps=20), owner="li")
            company += [await service.submit(a_request(f"good {n}", steps=20), owner="li") for n in range(3)]
            failed = await service.wait(poison.id)
            assert failed.state is JobState.FAILED
            assert failed.error is not None
            assert (failed.error.code, failed.error.params) == ("engine_lost", {"attempts": 3})
            for job in company:
                assert (await service.wait(job.id)).state is JobState.DONE
            assert service.stats()["engine_starts"] == 4

    drive(work())


def test_an_engine_that_hangs_is_replaced(running: Running) -> None:
    async def work() -> None:
        async with running(settings={"engine_hang_seconds": 3}) as service:
            job = await service.wait((await service.submit(a_request("hang-once"), owner="li")).id)
            assert (job.state, job.attempts, len(job.pictures)) == (JobState.DONE, 1, 1)
            assert service.stats()["engine_starts"] == 2

    drive(work())


def test_an_engine_that_talks_nonsense_is_replaced(running: Running) -> None:
    async def work() -> None:
        async with running(settings={"engine_attempts": 1}) as service:
            job = await service.wait((await service.submit(a_request("garbage"), owner="li")).id)
            assert job.error is not None
            assert job.error.code == "engine_lost"
            assert (await service.wait((await service.submit(a_request(), owner="li")).id)).state is JobState.DONE

    drive(work())


def test_an_engine_that_cannot_start_is_told_and_tried_again(tmp_path: Path) -> None:
    async def work() -> None:
        service = make_service(tmp_path / "data")
        service._command = ["/bin/sh", "-c", "exit 3"]
        await service.start()
        try:
            await until(lambda: service.stats()["engine_starts"] >= 3)
            readiness = service.readiness()
            assert not readiness.ready
            assert readiness.error is not None
            assert "exit code 3" in readiness.error.text("en")
            job = await service.submit(a_request(), owner="li")
            assert service.view(job.id).job.state is JobState.QUEUED
        finally:
            await service.stop()

    drive(work())


def test_an_interrupted_job_is_over_when_the_engine_dies(running: Running) -> None:
    async def work() -> None:
        async with running(step=0.3) as service:
            job = await service.submit(a_request(steps=20), owner="li")
            await until(lambda: service.view(job.id).step > 0)
            os.kill(service._link.pid, signal.SIGSTOP)  # it cannot obey any more
            await service.interrupt(job.id)
            os.kill(service._link.pid, signal.SIGKILL)
            done = await service.wait(job.id)
            assert (done.state, done.interrupted, done.pictures) == (JobState.DONE, True, ())

    drive(work())


def test_plugins_change_requests_in_turn_and_hear_of_pictures(tmp_path: Path) -> None:
    heard = []

    class Add:
        def __init__(self, word: str) -> None:
            self.word = word

        @hookimpl
        def danqing_before_job(self, request: GenerateRequest) -> GenerateRequest:
            return request.model_copy(update={"prompt": request.prompt + self.word})

        @hookimpl
        def danqing_after_picture(self, path: str, infotext: str) -> None:
            heard.append((path, infotext))
            raise RuntimeError("a plug-in's own fault")

    async def work() -> None:
        service = make_service(tmp_path / "data")
        service._plugins.register(Add(", first"))
        service._plugins.register(Add(", second"))
        await service.start()
        try:
            job = await service.wait((await service.submit(a_request("a cat"), owner="li")).id)
            assert (job.state, job.request.prompt) == (JobState.DONE, "a cat, first, second")
            picture = service.gallery.get(job.pictures[0])
            assert heard[0] == (str(picture.path), picture.infotext)
        finally:
            await service.stop()

    drive(work())


def test_stop_before_start_is_nothing(tmp_path: Path) -> None:
    drive(make_service(tmp_path / "data").stop())


def test_jobs_of_a_newer_program_are_still_drawn(running: Running) -> None:
    async def work() -> None:
        async with running(settings={"engine_external": True}) as service:
            job = await service.submit(a_request(), owner="li")
            text = job.request.model_dump_json()[:-1] + ', "a_later_field": 5}'
            sql = "UPDATE job SET request = ? WHERE id = ?"
            await service._database.awrite(lambda connection: connection.execute(sql, (text, job.id)))
        async with running() as service:
            assert (await service.wait(job.id)).state is JobState.DONE

    drive(work())
