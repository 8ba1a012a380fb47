"""A full disk: jobs wait or are told, nothing is broken, the service goes on."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.jobs.model import JobState

from .support import Running, a_request, drive, make_service, until

BIG = {"width": 640, "height": 640, "steps": 1}
"""1.2 MB of noise as PNG."""


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow past `size` bytes, which a writer meets like a full disk."""
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))


def files(data: Path) -> list[Path]:
    return [path for path in (data / "outputs").rglob("*") if path.is_file()]


def test_a_picture_without_room_fails_with_a_reason_after_some_tries(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(settings={"disk_tries": 3}) as service:
            await until(lambda: service.readiness().ready)
            with no_file_larger_than(2**20):
                big = await service.submit(a_request(**BIG), owner="li")
                small = await service.submit(a_request(), owner="li")
                assert (await service.wait(small.id)).state is JobState.DONE
                failed = await service.wait(big.id)
            assert failed.state is JobState.FAILED
            assert failed.error is not None
            assert failed.error.code == "disk_full"
            assert (tmp_path / "data" / "engine.log").read_text().count(f"drawn {big.id}") == 3
            assert len(files(tmp_path / "data")) == 1
            again = await service.wait((await service.submit(a_request(**BIG), owner="li")).id)
            assert again.state is JobState.DONE
            assert service.stats()["engine_starts"] == 1

    drive(work())


def test_room_made_in_time_saves_the_job(running: Running, tmp_path: Path) -> None:
    async def work() -> None:
        async with running(settings={"disk_tries": 10}) as service:
            await until(lambda: service.readiness().ready)
            with no_file_larger_than(2**20):
                job = await service.submit(a_request(n_iter=2, **BIG), owner="li")
                await until(lambda: service._board.find(job.id).disk_tries > 0)
                assert service.view(job.id).job.state in (JobState.QUEUED, JobState.RUNNING)
            done = await service.wait(job.id)
            assert (done.state, len(done.pictures)) == (JobState.DONE, 2)
            assert len(files(tmp_path / "data")) == 2

    drive(work())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (65536, 4096, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except OSError:
            continue
    os.close(fd)
    return ballast


def test_jobs_are_refused_below_the_reserve(small_disk: Path) -> None:
    async def work() -> None:
        service = make_service(small_disk / "data", settings={"disk_reserve_mb": 200})
        await service.start()
        try:
            with pytest.raises(DanqingError) as caught:
                await service.submit(a_request(), owner="li")
            assert caught.value.code == "disk_full"
            assert service.views() == []
        finally:
            await service.stop()

    drive(work())


def test_not_a_byte_free(small_disk: Path) -> None:
    """Even the queue's own file cannot be written: what was acknowledged ends well when there is room again."""

    async def work() -> None:
        service = make_service(small_disk / "data", step=0.1)
        await service.start()
        try:
            running = await service.submit(a_request(steps=4), owner="li")
            waiting = [await service.submit(a_request(), owner="li") for _ in range(3)]
            await until(lambda: service.view(running.id).step > 0)
            ballast = fill(small_disk)
            refused = None
            for _ in range(20):  # the write-ahead log has a little room of its own left
                try:
                    await service.submit(a_request(), owner="li")
                except DanqingError as error:
                    refused = error
                    break
            assert refused is not None
            assert refused.code == "disk_full"
            await until(lambda: service.view(running.id).step == 4)
            await asyncio.sleep(0.3)
            assert not service.view(running.id).job.state.final
            ballast.unlink()
            for job in (running, *waiting):
                done = await service.wait(job.id)
                assert (done.state, len(done.pictures)) == (JobState.DONE, 1)
        finally:
            await service.stop()

    drive(work())
