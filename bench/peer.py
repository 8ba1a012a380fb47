"""The peer of the serving benchmark: diffusers' StableDiffusionPipeline behind a lock, in a process of its own.

It has the same weights in the same number format, the same number of threads and the same requests, and stores PNG files too.
Requests that come together are drawn one after another in their order, which is what a lock gives at best.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from danqing import torchvision_shim as torchvision_shim  # before diffusers and transformers
from danqing.library.index import Checkpoint
from danqing.request import GenerateRequest

Timing = tuple[float, float, float]
"""time.monotonic() of the arrival, of the first preview that could be shown, and of the stored picture."""


def scheduler_of(name: str, config: dict[str, Any]) -> Any:
    """diffusers' scheduler for a sampler of the catalogue."""
    import diffusers

    makers: dict[str, tuple[Any, dict[str, Any]]] = {
        "DPM++ 2M": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        "Euler a": (diffusers.EulerAncestralDiscreteScheduler, {}),
        "Euler": (diffusers.EulerDiscreteScheduler, {}),
        "LMS": (diffusers.LMSDiscreteScheduler, {}),
        "Heun": (diffusers.HeunDiscreteScheduler, {}),
        "DDIM": (diffusers.DDIMScheduler, {"clip_sample": False}),
        "UniPC": (diffusers.UniPCMultistepScheduler, {}),
    }
    maker, options = makers[name]
    return maker.from_config({**config, **options})


def pipeline(checkpoint: Checkpoint) -> Any:
    """A StableDiffusionPipeline with the checkpoint's weights in float32 on the CPU."""
    import torch
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    import danqing
    from danqing.engine import models

    model = models.load(checkpoint, torch.device("cpu"), torch.float32)
    vocabulary = Path(danqing.__file__).parent / "assets" / "clip"
    made = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text,
        tokenizer=CLIPTokenizer.from_pretrained(vocabulary),
        unet=model.unet,
        scheduler=PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def draw(made: Any, config: dict[str, Any], request: GenerateRequest, file: Path) -> float:
    """Draw one request into `file`; the time of its first step, when a preview could be shown."""
    import torch

    first: list[float] = []

    def after_step(_pipeline: Any, _step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if not first:
            first.append(time.monotonic())
        return tensors

    made.scheduler = scheduler_of(request.sampler, config)
    picture = made(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        width=request.width,
        height=request.height,
        generator=torch.Generator().manual_seed(request.seed),
        callback_on_step_end=after_step,
    ).images[0]
    picture.save(file)
    return first[0]


def serve(pipe: Connection, checkpoint: Checkpoint, threads: int, folder: Path) -> None:
    """The peer's process: lists of requests in, lists of timings out."""
    import torch

    torch.set_num_threads(threads)
    made = pipeline(checkpoint)
    config = dict(made.scheduler.config)
    pipe.send("ready")
    while (requests := pipe.recv()) is not None:
        arrived = time.monotonic()
        timings: list[Timing] = []
        for number, request in enumerate(requests):
            first = draw(made, config, request, folder / f"{number}.png")
            timings.append((arrived, first, time.monotonic()))
        pipe.send(timings)


class Peer:
    """The process from outside."""

    def __init__(self, checkpoint: Checkpoint, threads: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=serve, args=(far, checkpoint, threads, folder), daemon=True)
        self._process.start()
        far.close()
        self._pipe.recv()

    def draw(self, requests: list[GenerateRequest]) -> list[Timing]:
        self._pipe.send(requests)
        answer: list[Timing] = self._pipe.recv()
        return answer

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(10)
