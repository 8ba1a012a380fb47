"""What the engine costs: `Engine.step()` against the bare UNet forward of the same rows, taking turns in one process.

The difference is everything that is not the UNet: choosing the group, stacking rows, guidance, the sampler's arithmetic,
progress and previews.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from bench.report import Cell, show
from danqing.engine import building, models, plans
from danqing.engine.engine import Engine
from danqing.engine.runner import Runner
from danqing.engine.scheduler import Limits
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.engine.studio import Studio
from danqing.library.architecture import Architecture
from danqing.library.index import Checkpoint, Library
from danqing.library.shapes import TextShape, UnetShape, VaeShape
from danqing.request import GenerateRequest

SD15 = Architecture(
    unet=UnetShape(4, (320, 640, 1280, 1280), (True, True, True, False), 2, 8, 768, 32),
    vae=VaeShape((128, 256, 512, 512), 2, 32),
    texts=(TextShape(768, 12, 12, 3072, 49408, 77, "quick_gelu"),),
)


class OneModel:
    """The engine's store with one model in it, already loaded."""

    def __init__(self, model: models.Model) -> None:
        self._loaded: Future[Any] = Future()
        self._loaded.set_result(model)

    def acquire(self, _checkpoint: Any) -> Future[Any]:
        return self._loaded

    def release(self, _model: Any) -> None:
        pass


def random_sd15() -> models.Model:
    """A model of SD 1.5's size with random weights: one block of noise over and over, since fresh noise takes half a minute."""
    block = torch.randn(2**20) * 0.02
    unet, text = building.meta_unet(SD15.unet), building.meta_text(SD15.text)
    for module in (unet, text):
        module.to_empty(device="cpu").eval().requires_grad_(False)
        for parameter in module.parameters():
            for piece in parameter.view(-1).split(len(block)):
                piece.copy_(block[: len(piece)])
    text.register_buffer("position_ids", None, persistent=False)
    for name, buffer in text.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    checkpoint = Checkpoint("random-sd15", Path("random-sd15"), None, None, 512, "")
    rgb = torch.zeros(4, 3), torch.zeros(3)
    hashed: Future[str] = Future()
    hashed.set_result("0" * 64)
    encoders = (models.TextEncoder("clip_l", text, building.END),)
    return models.Model(checkpoint, SD15, unet, None, encoders, ModelSigmas(linear_alphas()), rgb, hashed)


def requests(count: int, side: int, steps: int) -> list[GenerateRequest]:
    return [
        GenerateRequest(prompt=f"number {n}", sampler="DPM++ 2M", steps=steps, width=side, height=side, seed=n)
        for n in range(count)
    ]


@torch.inference_mode()
def bare(model: models.Model, rows: int, side: int) -> float:
    """Seconds of one UNet forward of `rows` rows."""
    x = torch.randn(rows, 4, side // 8, side // 8)
    t = torch.full((rows,), 500.0)
    context = torch.randn(rows, 77, model.architecture.text.width)
    begin = time.perf_counter()
    model.unet(x, t, encoder_hidden_states=context, return_dict=False)
    return time.perf_counter() - begin


def compare(name: str, model: models.Model, jobs: int, side: int, steps: int) -> dict[str, Cell]:
    """`steps` engine steps of `jobs` jobs with CFG, a bare forward of the same rows after each."""
    limits = Limits(rows=2 * jobs, denoise_budget=2**31, gain=10.0)
    data = Path("data")
    studio = Studio.of(data, Library(data))
    engine = Engine(
        Runner(torch.device("cpu")),
        OneModel(model),
        lambda message: None,
        make_plan=lambda request, index, track: plans.plan(request, index, studio.fresh(), track),
        measure=plans.measure,
        limits=limits,
    )
    for number, request in enumerate(requests(jobs, side, steps + 4)):
        engine.submit(str(number), request)
    ours: list[float] = []
    forward: list[float] = []
    while len(ours) < steps and not engine.idle:
        before, begin = dict(engine.counters), time.perf_counter()
        engine.step()
        seconds = time.perf_counter() - begin
        if engine.counters["rows"] - before["rows"] == 2 * jobs:
            ours.append(seconds)
            forward.append(bare(model, 2 * jobs, side))
    extra = [step - plain for step, plain in zip(ours, forward, strict=True)]
    return {
        "model": name,
        "jobs": jobs,
        "rows": 2 * jobs,
        "side": side,
        "steps": len(ours),
        "engine step ms": 1000 * statistics.median(ours),
        "bare UNet ms": 1000 * statistics.median(forward),
        "overhead ms": 1000 * statistics.median(extra),
        "overhead ms a job": 1000 * statistics.median(extra) / jobs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="engine steps measured with the miniature model")
    parser.add_argument("--sd15-steps", type=int, default=8, help="those with SD 1.5's size; 0 leaves it out")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    mini = Library(Path("data")).resolve("danqing-mini")
    model = models.load(mini, torch.device("cpu"), torch.float32)
    rows = [compare("danqing-mini", model, jobs, mini.native_size, options.steps) for jobs in (1, 4, 8)]
    if options.sd15_steps:
        rows.append(compare("SD 1.5's size, random weights", random_sd15(), 1, 256, options.sd15_steps))
    notes = [
        "Medians; each engine step is followed by a bare forward of the same rows. Two rows a job (CFG), DPM++ 2M, previews on."
    ]
    show("overhead", "Engine overhead", rows, notes)


if __name__ == "__main__":
    main()
