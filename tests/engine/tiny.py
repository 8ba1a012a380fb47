"""A small SD 1.5-shaped checkpoint with random weights, drawn from a seed bit for bit.

`tensors.txt` lists its tensors in order. The pictures and latents in `reference/` were drawn from this checkpoint by
AUTOMATIC1111's WebUI v1.10.1 on a CPU; they are outputs, recorded for comparison.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

REFERENCE = Path(__file__).parent / "reference"
SHA256_BEGINS = "dcb4c28710512ac6"


def _tensors() -> Iterator[tuple[str, list[int], bool]]:
    for line in (REFERENCE / "tensors.txt").read_text("utf-8").splitlines():
        name, shape, *integer = line.split()
        yield name, [int(n) for n in shape.split("x")] if shape else [], bool(integer)


def tensors(seed: int = 1234, channels: int = 4) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors, float16 (position ids: int64); `channels`: what its UNet sees."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, shape, integer in _tensors():
        if integer:
            state[name] = torch.arange(shape[-1]).expand(shape).clone()
            continue
        if name == "model.diffusion_model.input_blocks.0.0.weight":
            shape = [shape[0], channels, *shape[2:]]
        value = torch.randn(shape, generator=generator)
        if "embedding" in name:
            value *= 0.3
        elif len(shape) >= 2:
            value *= (1.0 if name.startswith("cond_stage_model.") else 0.8) / math.sqrt(math.prod(shape[1:]))
        else:
            value = 1 + 0.1 * value if name.endswith("weight") else 0.05 * value
        state[name] = value
    vae = "first_stage_model."
    state[vae + "decoder.conv_out.weight"] *= 0.35
    state[vae + "post_quant_conv.weight"] = (
        torch.eye(4).view(4, 4, 1, 1) * 0.5 + 0.05 * state[vae + "post_quant_conv.weight"]
    )
    state[vae + "quant_conv.weight"][4:] = 0
    state[vae + "quant_conv.bias"][4:] = -30
    state[vae + "quant_conv.weight"][:4] *= 3
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def write(data: Path, name: str = "tiny-sd15", seed: int = 1234) -> Path:
    """Put the checkpoint and its YAML into a data folder; returns the checkpoint's path."""
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(seed), folder / f"{name}.safetensors", metadata={"format": "pt"})
    shutil.copy(REFERENCE / "tiny-sd15.yaml", folder / f"{name}.yaml")
    return folder / f"{name}.safetensors"
