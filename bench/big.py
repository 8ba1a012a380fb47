"""Memory of big pictures: SD 1.5's size with random weights, float32, drawn through the plan and the engine of every request.

Each row runs in a process of its own and tells the most memory that the process ever had, weights (about 4 GB) and imports
included. "whole": the UNet sees the latent as one; "tiles": overlapping tiles of 512 pixels (option `diffusion_tile`). The VAE
works in strips in both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.report import Cell, show

CASES = ((512, 0), (1024, 0), (1024, 512), (2048, 512), (2560, 512))
VAE_TILE = 512


def draw(side: int, tile: int, steps: int) -> dict[str, Any]:
    """One picture in this process."""
    import torch

    from bench.overhead import SD15, OneModel, random_sd15
    from danqing.engine import building, plans
    from danqing.engine import settings as engine_settings
    from danqing.engine.engine import Engine
    from danqing.engine.runner import Runner
    from danqing.engine.scheduler import Limits
    from danqing.engine.studio import Studio
    from danqing.engine.vae import free_memory
    from danqing.library.index import Library
    from danqing.request import GenerateRequest
    from danqing.settings import Settings

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    vae = building.meta_vae(SD15.vae, SD15.scale).to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in vae.parameters():
        parameter.normal_(0, 0.02)
    model = replace(random_sd15(), vae=vae)
    loaded = time.perf_counter()
    request = GenerateRequest(prompt="a wide landscape", steps=steps, width=side, height=side, seed=1)
    request = request.model_copy(
        update={"options": request.options.model_copy(update={"diffusion_tile": tile, "vae_tile": VAE_TILE})}
    )
    studio = Studio.of(Path("data"), Library(Path("data")))
    sizes: list[Any] = []
    failures: list[Any] = []
    settings = Settings(engine_settings.ROWS)
    limits = Limits(
        rows=settings.get_int("engine_rows"),
        denoise_budget=settings.get_int("engine_denoise_budget"),
        decode_budget=settings.get_int("engine_decode_budget"),
        gain=settings.get_float("engine_gain"),
    )

    def tell(message: Any) -> None:
        kind = {"image": sizes, "failed": failures}.get(message.body.get("event"))
        if kind is not None:
            kind.append(message.body)

    engine = Engine(
        Runner(torch.device("cpu")),
        OneModel(model),
        tell,
        make_plan=lambda request, index, track: plans.plan(request, index, studio.fresh(), track),
        measure=plans.measure,
        limits=limits,
        free=lambda: free_memory(torch.device("cpu")),
    )
    engine.submit("big", request)
    while not engine.idle:
        engine.step()
    if failures or not sizes:
        raise SystemExit(f"no picture: {failures}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
    return {"seconds": time.perf_counter() - loaded, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.big", description=__doc__)
    parser.add_argument("--child", nargs=2, type=int, metavar=("SIDE", "TILE"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--most", type=int, default=2560, help="the largest side that is drawn")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(draw(*given.child, given.steps)))
        return
    rows: list[dict[str, Cell]] = []
    for side, tile in (case for case in CASES if case[0] <= given.most):
        command = [sys.executable, "-m", "bench.big", "--child", str(side), str(tile), "--steps", str(given.steps)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        how = f"tiles of {tile}" if tile else "whole"
        rows.append(
            {"picture": f"{side}x{side}", "UNet": how, "peak GB": found["peak"], "seconds": round(found["seconds"], 1)}
        )
        print(rows[-1], file=sys.stderr)
    show(
        "big",
        "Memory of big pictures",
        rows,
        [f"{given.steps} step(s) with CFG, VAE in strips of {VAE_TILE}, on the CPU."],
    )


if __name__ == "__main__":
    main()
