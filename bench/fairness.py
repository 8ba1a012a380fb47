"""Fair shares: A queues many pictures at once, B, C and D one each while they are drawn; when does each of theirs begin?

A's pictures are drawn twice, alone and with the others in between, so that what company costs A can be seen too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from bench.report import Cell, percentile, show
from danqing import log
from danqing.app import load_settings
from danqing.jobs.model import JobState
from danqing.jobs.service import JobService
from danqing.library.index import Library
from danqing.request import GenerateRequest


async def drawn(service: JobService, request: GenerateRequest, owner: str) -> tuple[float, float]:
    """Seconds from asking until the first model step, and until the picture is stored."""
    asked, begun = time.monotonic(), 0.0
    job = await service.submit(request, owner=owner)
    async for view in service.changes(job.id):
        if view.step and not begun:
            begun = time.monotonic() - asked
    if service.get(job.id).state is not JobState.DONE:
        raise SystemExit(f"a job of {owner} failed: {service.get(job.id).error}")
    return begun or time.monotonic() - asked, time.monotonic() - asked


async def crowd(service: JobService, request: GenerateRequest, count: int) -> float:
    """Seconds until all of A's pictures are there."""
    asked = time.monotonic()
    jobs = [request.model_copy(update={"seed": n}) for n in range(count)]
    await asyncio.gather(*(drawn(service, job, "A") for job in jobs))
    return time.monotonic() - asked


async def measure(data: Path, options: argparse.Namespace) -> list[dict[str, Cell]]:
    """One row for an empty box, one for each newcomer, two for A."""
    library = Library(data)
    service = JobService(data, load_settings(data, {"engine_threads": options.threads}), library=library)
    await service.start()
    try:
        while not service.readiness().ready:
            await asyncio.sleep(0.1)
        size = library.default().native_size
        request = GenerateRequest(prompt="a red star", steps=options.steps, width=size, height=size, seed=1)
        await drawn(service, request, "warm-up")
        single = percentile([(await drawn(service, request, "A"))[1] for _ in range(5)], 0.5)
        alone = await crowd(service, request, options.crowd)
        together = asyncio.create_task(crowd(service, request, options.crowd))
        rows: list[dict[str, Cell]] = [{"who": "one picture, nobody else", "done s": single}]
        for owner in "BCD":
            await asyncio.sleep(alone / 8)
            begun, done = await drawn(service, request, owner)
            rows.append({"who": owner, "begun s": begun, "picture times": begun / single, "done s": done})
        both = await together
        for who, seconds in (("A alone", alone), ("A with B, C, D", both)):
            rows.append({"who": who, "done s": seconds, "pictures/s": options.crowd / seconds})
        return rows
    finally:
        await service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--crowd", type=int, default=100, help="A's pictures, a job each")
    parser.add_argument("--steps", type=int, default=8, help="sampling steps of every picture")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads of the engine")
    options = parser.parse_args()
    log.configure(level="warning")
    with tempfile.TemporaryDirectory() as name:
        rows = asyncio.run(measure(Path(name), options))
    notes = [
        f"danqing-mini, {options.steps} steps, {options.threads} threads; A queues {options.crowd} jobs of one picture, B, C and "
        "D one each while A's are drawn. “begun” is the first model step; a picture time is that of one picture alone."
    ]
    show("fairness", "Fair shares", rows, notes, crowd=options.crowd)


if __name__ == "__main__":
    main()
