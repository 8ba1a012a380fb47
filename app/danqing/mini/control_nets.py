"""The miniature ControlNets: a trunk of its own, thinner than the UNet's and without attention, and its files.

What a map shows is local and needs no words, so the trunk has residual blocks only; its last two levels are narrower than the
UNet's. The output convolutions bring every output to the UNet's channels. Names are those of diffusers' `ControlNetModel`.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.mini.export import NAME, WEIGHTS
from danqing.mini.nets import UNET

TITLES = {"pose": "openpose"}
"""What a file is called where that is not the kind: control types are found by names."""

TRUNK = (64, 64, 96, 96)
HINT = (16, 32, 64, 96)
OUTPUT_START = 0.02
"""Deviation of the output convolutions at the start. Zero, as in the paper, spares a big model a shock; here it costs time."""


def new_control() -> ControlNetModel:
    """An untrained net: latents (B, 4, h, w) and a hint (B, 3, 8 h, 8 w) in [0, 1] to the UNet's 12 skips and its middle."""
    levels = len(TRUNK)
    net = ControlNetModel(
        in_channels=UNET["in_channels"],
        down_block_types=("DownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=TRUNK,
        layers_per_block=UNET["layers_per_block"],
        norm_num_groups=UNET["norm_num_groups"],
        cross_attention_dim=UNET["cross_attention_dim"],
        attention_head_dim=UNET["attention_head_dim"],
        conditioning_embedding_out_channels=HINT,
    )
    for index, out in enumerate(_skips()):
        inner: Any = net.controlnet_down_blocks[index]
        net.controlnet_down_blocks[index] = _output(inner.in_channels, out)
    net.controlnet_mid_block = _output(TRUNK[-1], UNET["block_out_channels"][-1])
    _lively(net.controlnet_cond_embedding)
    return net


def _skips() -> list[int]:
    """Channels of the UNet's skip connections, in order."""
    widths: tuple[int, ...] = UNET["block_out_channels"]
    found = [widths[0]]
    for level, width in enumerate(widths):
        found += [width] * (UNET["layers_per_block"] + (level < len(widths) - 1))
    return found


def _output(inner: int, outer: int) -> nn.Conv2d:
    layer: Any = nn.Conv2d(inner, outer, 1)
    nn.init.normal_(layer.weight, std=OUTPUT_START)
    nn.init.zeros_(layer.bias)
    return cast(nn.Conv2d, layer)


def _lively(encoder: Any) -> None:
    """Keep a map's signal alive over eight convolutions: He's deviation, corrected for SiLU, which passes less than ReLU."""
    for layer in (encoder.conv_in, *encoder.blocks, encoder.conv_out):
        nn.init.normal_(layer.weight, std=1.3 * math.sqrt(2 / layer.weight[0].numel()))
        nn.init.zeros_(layer.bias)


def control_file(kind: str, folder: Path | None = None) -> Path:
    """Where the net of a kind lies; without a folder the shipped one."""
    return (folder or WEIGHTS) / f"{NAME}-{TITLES.get(kind, kind)}.safetensors"


def save_control(net: ControlNetModel, path: Path, kind: str, samples: int) -> None:
    """Write a net in half precision."""
    metadata = {
        "modelspec.title": path.stem,
        "modelspec.architecture": "stable-diffusion-v1/controlnet",
        "modelspec.license": "Apache-2.0",
        "danqing.recipe": f"{kind}: trained from nothing beside the frozen {NAME} on drawn scenes; {samples} samples",
    }
    halves: dict[str, Tensor] = {k: v.detach().half().contiguous().cpu() for k, v in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(halves, f"{path}.tmp", metadata)
    os.replace(f"{path}.tmp", path)


def load_control(path: Path) -> ControlNetModel:
    """A net from its file, float32."""
    net = new_control()
    with safe_open(str(path), "pt") as file:
        net.load_state_dict({key: file.get_tensor(key).float() for key in file.keys()})  # noqa: SIM118
    return net.eval().requires_grad_(False)


def samples_of(path: Path) -> int:
    """How many samples a file says it was trained on."""
    with safe_open(str(path), "pt") as file:
        found = re.search(r"(\d+) samples", (file.metadata() or {}).get("danqing.recipe", ""))
    return int(found[1]) if found else 0


def bfloat16_parameters(net: nn.Module) -> dict[str, Tensor]:
    """The weights as bfloat16, for `torch.func.functional_call`: gradients come back to the float32 ones."""
    return {name: value.to(torch.bfloat16) for name, value in net.named_parameters()}
