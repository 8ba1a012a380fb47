"""Engines that somebody else starts, long socket paths, left-over engines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from danqing.jobs.model import JobState

from .support import FAKE_ENGINE, a_request, drive, make_service, until


def start_engine(socket: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(FAKE_ENGINE), "--socket", str(socket), "--step", "0.02", "--keep"])


def test_an_external_engine_is_only_connected_to(tmp_path: Path) -> None:
    socket = tmp_path / "e.sock"

    async def work() -> None:
        service = make_service(tmp_path / "data", settings={"engine_external": True, "engine_socket": str(socket)})
        await service.start()
        try:
            job = await service.submit(a_request(steps=10), owner="li")
            assert not service.readiness().ready
            engine = start_engine(socket)
            await until(lambda: service.view(job.id).step > 2)
            engine.kill()
            engine.wait()
            socket.unlink()
            await until(lambda: not service.readiness().ready)
            engine = start_engine(socket)
            assert (await service.wait(job.id)).state is JobState.DONE
        finally:
            await service.stop()
        assert engine.poll() is None, "an engine that is not ours is not stopped"
        engine.kill()
        engine.wait()

    drive(work())


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    async def work() -> None:
        data = tmp_path / ("x" * 100)
        service = make_service(data)
        await service.start()
        place = service._link.socket
        assert not place.is_relative_to(data)
        assert place.parent.stat().st_mode & 0o777 == 0o700
        try:
            job = await service.submit(a_request(), owner="li")
            assert (await service.wait(job.id)).state is JobState.DONE
        finally:
            await service.stop()
        assert not place.parent.exists()

    drive(work())


def test_a_left_over_engine_is_in_nobodys_way(tmp_path: Path) -> None:
    async def work() -> None:
        data = tmp_path / "data"
        (data / "run").mkdir(parents=True)
        old = start_engine(data / "run" / "engine.sock")
        await until((data / "run" / "engine.sock").exists)
        service = make_service(data)
        await service.start()
        try:
            job = await service.submit(a_request(), owner="li")
            assert (await service.wait(job.id)).state is JobState.DONE
            assert f"submit {job.id}" in (data / "engine.log").read_text()
        finally:
            await service.stop()
            old.kill()
            old.wait()

    drive(work())
