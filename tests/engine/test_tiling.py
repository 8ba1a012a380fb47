"""Pictures that tile: shifting the input round the border shifts the output and changes nothing else."""

from __future__ import annotations

import torch

from danqing.engine.patching import Patcher
from danqing.engine.tiling import circular

from ..adapters.support import C, SmallModel, close, lora, make_unet, normal, write


def shifted(unet: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network says to x, and what it says to x rolled, rolled back."""
    t = torch.tensor([500.0, 20.5])
    with torch.no_grad():
        plain = unet(x, t, encoder_hidden_states=C, return_dict=False)[0]
        rolled = unet(x.roll((4, -6), (2, 3)), t, encoder_hidden_states=C, return_dict=False)[0]
    return plain, rolled.roll((-4, 6), (2, 3))


def test_a_border_is_like_any_other_place() -> None:
    unet, x = make_unet(), normal(2, 4, 8, 12, scale=1.0)
    before, moved = shifted(unet, x)
    assert not close(moved, before, 1e-2)
    with circular(unet):
        plain, moved = shifted(unet, x)
    assert close(moved, plain)
    assert torch.equal(shifted(unet, x)[0], before)
    assert {m.padding_mode for m in unet.modules() if isinstance(m, torch.nn.Conv2d)} == {"zeros"}


def test_a_lora_on_a_convolution_tiles_too(tmp_path) -> None:
    model, x = SmallModel(), normal(2, 4, 8, 12, scale=1.0)
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = {stem + ".lora_down.weight": normal(4, 32, 3, 3), stem + ".lora_up.weight": normal(32, 4, 1, 1)}
    core = "lora_unet_conv_out"
    tensors |= {core + ".lora_down.weight": normal(4, 32, 1, 1), core + ".lora_mid.weight": normal(4, 4, 3, 3)}
    tensors[core + ".lora_up.weight"] = normal(4, 4, 1, 1)
    path = write(tmp_path / "a.safetensors", tensors)
    with circular(model.unet), Patcher().patched(model, (lora(path),), "unet"):
        plain, moved = shifted(model.unet, x)
    assert close(moved, plain)
    assert not close(plain, shifted(model.unet, x)[0], 1e-2)
