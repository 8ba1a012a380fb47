"""The data root that the recorded pictures were drawn on, made again: small files as they are, checkpoints from their seeds.

`python -m tests.parity.fixture OUT`. On another kind of CPU single fp16 values of the checkpoints may differ, far below the
bounds of the comparison.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.engine import tiny

HERE = Path(__file__).parent
CASES = HERE / "cases"
UNET, CONTROL, VAE = "model.diffusion_model.", "control_model.", "first_stage_model."
INPAINT_CHANNELS = 9
HINT = ((3, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, 32))
"""Channels in and out of the hint encoder's convolutions."""
OUTPUTS = (32, 32, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128)
"""Channels of the ControlNet's outputs to the skip connections."""


def control_net(base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A ControlNet of the checkpoint's first half, with outputs that are not zero, float16."""
    generator = torch.Generator().manual_seed(555)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    parts = ("time_embed", "input_blocks", "middle_block")
    state = {
        CONTROL + name.removeprefix(UNET): value.float()
        for name, value in base.items()
        if name.startswith(UNET) and name.removeprefix(UNET).startswith(parts)
    }
    for i, (before, after) in enumerate(HINT):
        state[f"{CONTROL}input_hint_block.{2 * i}.weight"] = rand(after, before, 3, 3) * (0.8 / math.sqrt(before * 9))
        state[f"{CONTROL}input_hint_block.{2 * i}.bias"] = rand(after) * 0.05
    for i, width in enumerate(OUTPUTS):
        state[f"{CONTROL}zero_convs.{i}.0.weight"] = rand(width, width, 1, 1) * (0.3 / math.sqrt(width))
        state[f"{CONTROL}zero_convs.{i}.0.bias"] = rand(width) * 0.05
    state[f"{CONTROL}middle_block_out.0.weight"] = rand(128, 128, 1, 1) * (0.3 / math.sqrt(128))
    state[f"{CONTROL}middle_block_out.0.bias"] = rand(128) * 0.05
    return {name: value.half() for name, value in state.items()}


def make(out: Path) -> Path:
    """Write the data root; returns it."""
    shutil.copytree(CASES / "data", out, dirs_exist_ok=True)
    models = out / "models"
    for name in ("Stable-diffusion", "VAE", "ControlNet", "ESRGAN"):
        (models / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(tiny.REFERENCE / "tiny4x.pth", models / "ESRGAN")
    base, other = tiny.tensors(1234), tiny.tensors(4321)
    rows = {
        "tiny-sd15": base,
        "tiny-sd15-v": base,
        "tiny-sd15-b": other,
        "tiny-sd15-inpaint": tiny.tensors(77, INPAINT_CHANNELS),
    }
    for name, state in rows.items():
        save_file(state, models / "Stable-diffusion" / f"{name}.safetensors", metadata={"format": "pt"})
    vae = {name.removeprefix(VAE): value for name, value in other.items() if name.startswith(VAE)}
    save_file(vae, models / "VAE" / "tinyvae.safetensors")
    save_file(control_net(base), models / "ControlNet" / "control_tiny11_sd15_canny.safetensors")
    return out


if __name__ == "__main__":
    make(Path(sys.argv[1]))
