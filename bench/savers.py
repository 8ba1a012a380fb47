"""Step savers: what each gains in speed and what it does to the picture.

On danqing-mini the same questions are drawn by every method and judged from their pixels; PSNR compares with the plain picture of
the same seed. On a network of SD 1.5's size with random weights only the speed means anything.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.overhead import OneModel, random_sd15
from bench.report import Cell, show
from danqing.engine import models, plans
from danqing.engine.engine import Engine
from danqing.engine.protocol import Message
from danqing.engine.runner import Runner
from danqing.engine.scheduler import Limits
from danqing.engine.studio import Studio
from danqing.library.index import Library
from danqing.mini.figures import Pictures, questions, shares, verdicts_of
from danqing.request import GenerateRequest

GUIDANCE = 4.0


@dataclass(frozen=True)
class Method:
    """One way to save steps: options and other fields of the request."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    steps: float = 1.0
    """Share of the steps."""


METHODS = (
    Method("plain"),
    Method("half the steps", steps=0.5),
    Method("CFG end 0.7", {"cfg_end": 0.7}),
    Method("CFG end 0.5", {"cfg_end": 0.5}),
    Method("feature cache, every 2nd step whole", {"feature_cache_interval": 2}),
    Method("feature cache, every 3rd step whole", {"feature_cache_interval": 3}),
    Method("CFG end 0.7 and feature cache 2", {"cfg_end": 0.7, "feature_cache_interval": 2}),
    Method("token merging 0.3", {"token_merging_ratio": 0.3}),
    Method("token merging 0.5", {"token_merging_ratio": 0.5}),
)


class Easel:
    """An engine with one model, and its pictures."""

    def __init__(self, model: models.Model, data: Path, decodes: bool) -> None:
        studio = Studio.of(data, Library(data))
        self.images: dict[str, np.ndarray[Any, Any]] = {}
        self._decodes = decodes
        self.engine = Engine(
            Runner(model.unet.device),
            OneModel(model),
            self._hear,
            make_plan=lambda request, index, track: plans.plan(request, index, studio.fresh(), track),
            measure=plans.measure,
            limits=Limits(gain=10.0),
            clock=time.process_time,  # what others do on the machine at the same time does not count
        )

    def _hear(self, message: Message) -> None:
        body = message.body
        if body["event"] == "failed" and self._decodes:
            raise RuntimeError(str(body["error"]))
        if body["event"] == "image":
            shape = body["facts"]["height"], body["facts"]["width"], 3
            self.images[body["job"]] = np.frombuffer(message.blobs[0], np.uint8).reshape(shape)

    def drawn(self, request: GenerateRequest) -> tuple[float, np.ndarray[Any, Any] | None]:
        """Seconds of sampling, and the picture. Without a VAE the job fails at its end, when all has been measured."""
        before = self.engine.counters["forward_seconds"]
        self.engine.submit("one", request)
        self.engine.finish()
        return self.engine.counters["forward_seconds"] - before, self.images.pop("one", None)


def psnr(picture: np.ndarray[Any, Any], plain: np.ndarray[Any, Any]) -> float:
    """Decibels, over 0..255; infinite for equal ones."""
    square = float(np.mean((picture.astype(float) - plain) ** 2))
    return math.inf if square == 0 else 10 * math.log10(255**2 / square)


def request_of(method: Method, prompt: str, seed: int, side: int, steps: int) -> GenerateRequest:
    return GenerateRequest.model_validate(
        {
            "prompt": prompt,
            "seed": seed,
            "width": side,
            "height": side,
            "sampler": "DPM++ 2M",
            "scheduler": "Karras",
            "cfg_scale": GUIDANCE,
            "steps": max(1, round(steps * method.steps)),
            "options": method.options,
        }
    )


def judged(count: int, steps: int, data: Path) -> list[dict[str, Cell]]:
    """Every method on the miniature model."""
    checkpoint = Library(data).resolve("danqing-mini")
    easel = Easel(models.load(checkpoint, torch.device("cpu"), torch.float32), data, decodes=True)
    asked = questions("one", count, True)
    easel.drawn(request_of(METHODS[0], asked[0].prompt, 0, checkpoint.native_size, 2))
    rows: list[dict[str, Cell]] = []
    plain: Pictures = []
    for method in METHODS:
        seconds: list[float] = []
        pictures: Pictures = []
        for seed, question in enumerate(asked):
            took, picture = easel.drawn(request_of(method, question.prompt, seed, checkpoint.native_size, steps))
            assert picture is not None
            seconds.append(took)
            pictures.append(picture)
        plain = plain or pictures
        near = [psnr(one, two) for one, two in zip(pictures, plain, strict=True)]
        rows.append(
            row_of("danqing-mini", method, seconds, rows)
            | {
                "PSNR dB": "" if method is METHODS[0] else round(statistics.median(near), 1),
                "as asked %": round(100 * shares(verdicts_of(pictures, asked), asked)["all"]),
            }
        )
    return rows


def timed(side: int, steps: int, data: Path) -> list[dict[str, Cell]]:
    """Every method on a network of SD 1.5's size."""
    easel = Easel(random_sd15(), data, decodes=False)
    easel.drawn(request_of(METHODS[0], "warm", 0, side, 1))
    rows: list[dict[str, Cell]] = []
    for method in METHODS:
        took, _ = easel.drawn(request_of(method, "a", 0, side, steps))
        rows.append(row_of(f"SD 1.5's size, {side}²", method, [took], rows))
    return rows


def row_of(model: str, method: Method, seconds: list[float], before: list[dict[str, Cell]]) -> dict[str, Cell]:
    middle = statistics.median(seconds)
    plain = float(before[0]["UNet CPU s a picture"] or 0) if before else middle
    return {"model": model, "method": method.name, "UNet CPU s a picture": middle, "times as fast": plain / middle}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.savers", description=__doc__)
    parser.add_argument("--count", type=int, default=24, help="pictures of each method with the miniature model")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sd15-steps", type=int, default=6, help="steps with SD 1.5's size; 0 leaves it out")
    parser.add_argument("--sd15-side", type=int, default=256, help="side of the picture there, pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        rows = judged(options.count, options.steps, data)
        if options.sd15_steps:
            rows += timed(options.sd15_side, options.sd15_steps, data)
    notes = [
        f"DPM++ 2M Karras, {options.steps} steps, guidance {GUIDANCE}. PSNR: median against the plain picture of the same seed; "
        "`as asked`: share of held-out questions whose picture is right in every aspect.",
        "Distilled checkpoints and LoRAs (LCM; Hyper-SD's, with Euler and SGM Uniform) need weights of their own: not measured.",
    ]
    show("savers", "Step savers", rows, notes)


if __name__ == "__main__":
    main()
