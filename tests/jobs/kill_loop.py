"""Kills a job service with kill -9 at random moments: `python -m tests.jobs.kill_loop DATA ROUNDS SEED`.

Every round forks a process that runs a real service on DATA and submits jobs; each job that was acknowledged is appended to
DATA/acknowledged. (One interpreter forks them all: twenty imports of everything would be most of the time.)
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from .support import a_request, make_service

PICTURES = 2
JOBS_A_ROUND = 6


async def serve(data: Path, seed: int) -> None:
    rng = random.Random(seed)
    service = make_service(data, step=0.001)
    await service.start()
    with (data / "acknowledged").open("a", buffering=1) as told:
        for _ in range(JOBS_A_ROUND):
            request = a_request(seed=rng.randrange(2**32), steps=2, n_iter=PICTURES, width=32, height=32)
            job = await service.submit(request, owner="li")
            told.write(job.id + "\n")
            await asyncio.sleep(rng.uniform(0, 0.02))
    await asyncio.Event().wait()


def victim(data: Path, seed: int) -> None:
    asyncio.run(serve(data, seed))


def wait_for_a_picture(data: Path, known: int) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end and drawn(data) == known:
        time.sleep(0.005)


def drawn(data: Path) -> int:
    return (data / "engine.log").read_text().count("drawn")


def kill_at_random(data: Path, number: int, rng: random.Random) -> None:
    known, seed = drawn(data), rng.randrange(2**32)
    pid = os.fork()
    if pid == 0:
        victim(data, seed)
        os._exit(0)
    if number % 4:
        wait_for_a_picture(data, known)
        time.sleep(rng.uniform(0, 0.15))
    else:
        time.sleep(rng.uniform(0, 0.3))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def main(data: Path, rounds: int, seed: int) -> None:
    data.mkdir()
    (data / "engine.log").touch()
    rng = random.Random(seed)
    for number in range(rounds):
        kill_at_random(data, number, rng)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
