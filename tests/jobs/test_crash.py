"""kill -9 at random moments: no acknowledged job lost, no picture lost or doubled, no broken file, the queue goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from danqing.jobs.model import JobState
from danqing.jobs.service import JobService

from .fake_engine import pixels
from .kill_loop import PICTURES
from .support import a_request, drive, make_service, until

ROUNDS = 20
PACKAGE = __package__ or "jobs"
FOLDER = Path(__file__).parents[PACKAGE.count(".") + 1]


def kill_loop(data: Path) -> None:
    seed = random.randrange(2**32)
    print("kill loop with seed", seed)
    command = [sys.executable, "-m", f"{PACKAGE}.kill_loop", str(data), str(ROUNDS), str(seed)]
    with (data.parent / "kill_loop.log").open("wb") as log:
        subprocess.run(command, cwd=FOLDER, check=True, timeout=200, stdout=log, stderr=log)


def check_pictures(service: JobService, data: Path, jobs: list[str]) -> None:
    pictures = service.gallery.pictures(None, limit=100000)
    assert len(pictures) >= PICTURES * len(jobs)
    assert max(Counter((picture.job, picture.index) for picture in pictures).values()) == 1
    on_disk = {path for path in (data / "outputs").rglob("*") if path.is_file()}
    assert on_disk == {picture.path for picture in pictures}
    for picture in pictures:
        with Image.open(picture.path) as image:
            assert image.tobytes() == pixels(picture.seed, picture.width, picture.height)


def test_twenty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kill_loop(data)
    acknowledged = (data / "acknowledged").read_text().split()
    assert len(acknowledged) > ROUNDS

    async def work() -> None:
        service = make_service(data, step=0.001)
        await service.start()
        try:
            for job_id in acknowledged:
                job = await service.wait(job_id)
                assert (job.state, len(job.pictures), job.error) == (JobState.DONE, PICTURES, None)
            await until(lambda: not service.views(active=True))
            check_pictures(service, data, acknowledged)
            fresh = await service.wait((await service.submit(a_request(), owner="li")).id)
            assert fresh.state is JobState.DONE
        finally:
            await service.stop()

    drive(work(), 120)
    with sqlite3.connect(data / "danqing.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_engine_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random()

    async def work() -> None:
        service = make_service(tmp_path / "data", settings={"engine_attempts": 100, "engine_jobs_in_flight": 4})
        await service.start()
        try:
            jobs = [await service.submit(a_request(steps=10, n_iter=2, seed=n), owner="li") for n in range(40)]
            for _ in range(5):
                await until(lambda: service.readiness().ready)
                await asyncio.sleep(rng.uniform(0, 0.1))
                os.kill(service._link.pid, signal.SIGKILL)
                await until(lambda: not service.readiness().ready)
            for job in jobs:
                done = await service.wait(job.id)
                assert (done.state, len(done.pictures)) == (JobState.DONE, 2)
            check_pictures(service, tmp_path / "data", [job.id for job in jobs])
        finally:
            await service.stop()

    drive(work(), 120)


WEB = """
import asyncio, sys
from pathlib import Path
from {package}.support import make_service, until

async def work(data):
    service = make_service(data)
    await service.start()
    await until(lambda: service.readiness().ready)
    (data / "pid").write_text(str(service._link.pid))
    await asyncio.Event().wait()

asyncio.run(work(Path(sys.argv[1])))
"""


def test_the_engine_dies_with_the_web_process(tmp_path: Path) -> None:
    data = tmp_path / "data"
    web = subprocess.Popen([sys.executable, "-c", WEB.format(package=PACKAGE), str(data)], cwd=FOLDER)
    end = time.monotonic() + 60
    while not (data / "pid").exists() or not (data / "pid").read_text():
        assert time.monotonic() < end
        time.sleep(0.02)
    engine = int((data / "pid").read_text())
    os.kill(engine, signal.SIGSTOP)  # so that only the kernel can end it, not its own manners
    web.kill()
    web.wait()
    end = time.monotonic() + 20
    while alive(engine) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(engine)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
