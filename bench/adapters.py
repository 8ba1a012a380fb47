"""Applying a LoRA of 40 MB to a model of SD 1.5's size: first use, use again, and what a forward costs with it.

Beside it diffusers' `load_lora_weights` and `fuse_lora` on the same weights and the same file, in a process of its own, when the
package peft is installed. The file is in the page cache on both sides.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from bench.overhead import random_sd15
from bench.report import Cell, show
from danqing.engine.models import Model
from danqing.engine.networks import resolve
from danqing.engine.patching import Patcher
from danqing.library.networks import Networks
from danqing.prompt.networks import network_tags

RANK = 37
"""With which a LoRA on every linear layer of the attention blocks and of the text encoder is of 40 MB."""

REPEATS = 3


def write_lora(model: Model, path: Path) -> int:
    """kohya's layout in float16; returns the file's bytes."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for prefix, network in (("lora_unet_", model.unet), ("lora_te_text_model_", model.text)):
        for name, module in network.named_modules():
            if not ("transformer_blocks" in name or "layers" in name) or not isinstance(module, nn.Linear):
                continue
            stem = prefix + name.replace(".", "_")
            tensors[stem + ".lora_down.weight"] = _noise(generator, RANK, module.in_features)
            tensors[stem + ".lora_up.weight"] = _noise(generator, module.out_features, RANK)
            tensors[stem + ".alpha"] = torch.tensor(float(RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path.stat().st_size


def _noise(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return (torch.randn(shape, generator=generator) * 0.02).half()


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@torch.inference_mode()
def forward(model: Model, side: int) -> None:
    """One UNet forward of two rows, as a step with guidance has them."""
    x = torch.randn(2, 4, side // 8, side // 8)
    context = torch.randn(2, 77, model.architecture.texts[0].width)
    model.unet(x, torch.full((2,), 500.0), encoder_hidden_states=context, return_dict=False)


def ours(data: Path, side: int) -> dict[str, Cell]:
    """Danqing's row. First use: the name looked up, the hash for the infotext, the file read, both networks patched."""
    model = random_sd15()
    path = data / "models" / "Lora" / "big.safetensors"
    size = write_lora(model, path)
    path.read_bytes()
    patcher, networks = Patcher(), Networks(data)

    def use() -> None:
        adapters = resolve(network_tags("<lora:big:0.8>"), networks).adapters
        for part in ("text", "unet"):
            with patcher.patched(model, adapters, part):  # type: ignore[arg-type]
                pass

    first = timed(use)
    again = [timed(use) for _ in range(REPEATS)]
    adapters = resolve(network_tags("<lora:big:0.8>"), networks).adapters
    plain: list[float] = []
    patched: list[float] = []
    forward(model, side)
    for _ in range(REPEATS):
        plain.append(timed(lambda: forward(model, side)))
        with patcher.patched(model, adapters, "unet"):
            patched.append(timed(lambda: forward(model, side)))
    return {
        "side": "danqing",
        "file MB": size / 1e6,
        "first use ms": 1000 * first,
        "again ms": 1000 * statistics.median(again),
        "back to the bare model ms": 0.0,
        "forward without ms": 1000 * statistics.median(plain),
        "forward with ms": 1000 * statistics.median(patched),
    }


def peer(path: Path, side: int, answers: Connection) -> None:
    """diffusers' row, or None where peft is not installed. Runs in a process of its own."""
    from diffusers.utils import is_peft_available

    if not is_peft_available():
        answers.send(None)
        return
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    model = random_sd15()
    pipeline: Any = StableDiffusionPipeline(
        vae=None,
        text_encoder=model.text,
        tokenizer=None,
        unet=model.unet,
        scheduler=PNDMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    path.read_bytes()
    forward(model, side)
    plain = [timed(lambda: forward(model, side)) for _ in range(REPEATS)]

    def use() -> None:
        pipeline.load_lora_weights(path.parent, weight_name=path.name)
        pipeline.fuse_lora(lora_scale=0.8)

    def back() -> None:
        pipeline.unfuse_lora()
        pipeline.unload_lora_weights()

    first = timed(use)
    patched = [timed(lambda: forward(model, side)) for _ in range(REPEATS)]
    undo = timed(back)
    answers.send(
        {
            "side": "diffusers, fused",
            "file MB": path.stat().st_size / 1e6,
            "first use ms": 1000 * first,
            "again ms": 1000 * timed(use),
            "back to the bare model ms": 1000 * undo,
            "forward without ms": 1000 * statistics.median(plain),
            "forward with ms": 1000 * statistics.median(patched),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.adapters", description=__doc__)
    parser.add_argument("--side", type=int, default=256, help="pixels a side of the forward that is timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    notes = [
        "Float32 on the CPU; medians of three. First use includes the file's hash for the infotext and the text encoder."
    ]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        context = multiprocessing.get_context("spawn")
        rows = [ours(data, options.side)]
        here, there = context.Pipe()
        process = context.Process(target=peer, args=(data / "models" / "Lora" / "big.safetensors", options.side, there))
        process.start()
        there.close()
        try:
            row = here.recv()
        except EOFError:
            raise SystemExit("the peer's process ended without an answer") from None
        process.join()
    if row is None:
        notes.append("diffusers' side needs the package peft, which is not installed.")
    else:
        rows.append(row)
    show("adapters", "Adapters", rows, notes)


if __name__ == "__main__":
    main()
