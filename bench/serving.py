"""Many at once: 1 to 16 simultaneous requests, each with its own prompt, sampler, steps, CFG scale and seed.

Danqing is driven through `JobService`: its durable queue, its gallery and its engine in a process of its own, as `danqing
serve` has them; only HTTP is left out, for the peer has none either. Every level draws the same 16 requests, in groups of
as many as the level says, and both sides take turns level by level.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from bench.peer import Peer, Timing
from bench.report import Cell, percentile, show
from danqing import log
from danqing.app import load_settings
from danqing.engine.catalog import sampler_names
from danqing.jobs.service import JobService
from danqing.library.index import Checkpoint, Library
from danqing.request import GenerateRequest, checked

LEVELS = (1, 2, 4, 8, 16)
THINGS = ("circle", "square", "star", "heart", "ring", "triangle", "cross", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")


def requests(checkpoint: Checkpoint, count: int = 16) -> list[GenerateRequest]:
    """`count` different requests; the samplers take turns."""
    samplers = cycle(sampler_names())
    return [
        GenerateRequest(
            prompt=f"a {COLOURS[n % 8]} {THINGS[(n * 3) % 8]} on a {COLOURS[(n + 3) % 8]} background",
            sampler=next(samplers),
            steps=16 + n % 5 * 2,
            cfg_scale=4.0 + n % 4,
            seed=1000 + n,
            width=checkpoint.native_size,
            height=checkpoint.native_size,
            model=checkpoint.title,
        )
        for n in range(count)
    ]


async def draw_one(service: JobService, request: GenerateRequest) -> Timing:
    """Submit, watch, wait."""
    arrived = time.monotonic()
    job = await service.submit(request, owner="bench")
    first = 0.0
    async for view in service.changes(job.id):
        if view.preview is not None and not first:
            first = time.monotonic()
        if view.job.error is not None:
            raise SystemExit(f"a request failed: {view.job.error}")
    end = time.monotonic()
    return arrived, first or end, end


async def draw_ours(service: JobService, batch: Sequence[GenerateRequest]) -> list[Timing]:
    return list(await asyncio.gather(*(draw_one(service, request) for request in batch)))


def groups(all_of_them: list[GenerateRequest], size: int, rounds: int) -> list[list[GenerateRequest]]:
    return [all_of_them[start : start + size] for start in range(0, len(all_of_them), size)] * rounds


def summary(side: str, level: int, runs: list[list[Timing]]) -> dict[str, Cell]:
    """A row: throughput over the busy time, latencies of single requests, and the last user's first preview."""
    busy = sum(max(end for _, _, end in run) - min(arrived for arrived, _, _ in run) for run in runs)
    latencies = [end - arrived for run in runs for arrived, _, end in run]
    previews = [max(first - arrived for arrived, first, _ in run) for run in runs]
    return {
        "at once": level,
        "side": side,
        "pictures/s": len(latencies) / busy,
        "p50 s": percentile(latencies, 0.5),
        "p95 s": percentile(latencies, 0.95),
        "last user's first preview s": percentile(previews, 0.5),
    }


async def measure(library: Library, data: Path, options: argparse.Namespace) -> list[dict[str, Cell]]:
    """A row for each side and level."""
    settings = load_settings(data, {"engine_threads": options.threads})
    checkpoint = library.default()
    wanted = [checked(request, settings) for request in requests(checkpoint, options.requests)]
    service = JobService(data, settings, library=library)
    await service.start()
    peer = Peer(checkpoint, options.threads, data)
    rows: list[dict[str, Cell]] = []
    try:
        await warm(service, peer, wanted)
        for level in options.levels:
            rows += await compare(service, peer, groups(wanted, level, options.rounds))
    finally:
        peer.close()
        await service.stop()
    return rows


async def warm(service: JobService, peer: Peer, wanted: list[GenerateRequest]) -> None:
    """Each side draws every request, ours one by one, all at once and in fours, before anything counts."""
    while not service.readiness().ready:
        await asyncio.sleep(0.1)
    for size in (1, len(wanted), 4):
        for batch in groups(wanted, size, 1):
            await draw_ours(service, batch)
    await asyncio.to_thread(peer.draw, wanted)


async def compare(service: JobService, peer: Peer, batches: list[list[GenerateRequest]]) -> list[dict[str, Cell]]:
    """Both sides draw each batch, in turn: two rows."""
    theirs, ours = [], []
    for batch in batches:
        theirs.append(await asyncio.to_thread(peer.draw, batch))
        ours.append(await draw_ours(service, batch))
    rows = [summary("diffusers", len(batches[0]), theirs), summary("danqing", len(batches[0]), ours)]
    for row in rows:
        row["times the peer"] = float(row["pictures/s"] or 0) / float(rows[0]["pictures/s"] or 1)
    return rows


def lay_in(model: Path, data: Path) -> None:
    """Put a checkpoint, and the YAML beside it, where the library of `data` looks."""
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for path in (model, model.with_suffix(".yaml")):
        if path.exists():
            (folder / path.name).symlink_to(path.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often each level draws all 16 requests")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads of each side")
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS, help="how many requests at once")
    parser.add_argument("--requests", type=int, default=16, help="how many different ones there are")
    parser.add_argument("--model", type=Path, help="a checkpoint file to draw with; danqing-mini when none is named")
    options = parser.parse_args()
    log.configure(level="warning")
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        if options.model:
            lay_in(options.model, data)
        library = Library(data)
        checkpoint = library.default()
        rows = asyncio.run(measure(library, data, options))
    notes = [
        f"Model {checkpoint.name}, {checkpoint.native_size}×{checkpoint.native_size}, float32, {options.threads} threads a side; "
        f"{options.requests} requests, {', '.join(sampler_names())} in turn, 16 to 24 steps, drawn in groups of “at once”.",
        "diffusers: StableDiffusionPipeline behind a lock, warm; its preview counts from its first step's callback. "
        "danqing: JobService with its durable queue, PNG files and previews, engine in a process of its own.",
    ]
    show("serving", "Serving", rows, notes, threads=options.threads, rounds=options.rounds)


if __name__ == "__main__":
    main()
