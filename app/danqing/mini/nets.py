"""The three networks of danqing-mini: Stable Diffusion 1.x in every respect but width.

The topology (blocks, layers a block, where attention sits) is SD 1.5's, so that keys, adapters and
ControlNets of the family fit; only channel counts are small.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH = 64
"""Width of the text encoder, and so of the context the UNet attends to."""

TOKENS = 77
BOS, EOS, VOCABULARY = 49406, 49407, 49408
STEPS = 1000
BETA = (0.00085, 0.012)
SCALE = 0.18215

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 64, 64),
    "layers_per_block": 2,
    "norm_num_groups": 4,
    "sample_size": 128,
    "scaling_factor": SCALE,
}
UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (64, 64, 128, 128),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
}
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": TOKENS,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": WIDTH,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
}
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": STEPS,
    "beta_start": BETA[0],
    "beta_end": BETA[1],
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder: pictures (B, 3, H, W) in [-1, 1] to latents (B, 4, H/8, W/8)."""
    return AutoencoderKL(**VAE)


def new_text(rows: int) -> CLIPTextModel:
    """An untrained text encoder with a token table of `rows`: the words that training meets.

    Row 0 is the shared unknown word, 1 the begin and 2 the end token (see `words.Words`).
    """
    compact = {"vocab_size": rows, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    return CLIPTextModel(CLIPTextConfig(**{**TEXT, **compact}))


def new_unet() -> UNet2DConditionModel:
    """A UNet that starts by calling its input noise: exact where noise is all there is.

    Residual branches start at zero; the first channels of the outermost skip carry +x and -x, and
    since SiLU(x) - SiLU(-x) = x, the output is x over its own root mean square.
    """
    unet = UNet2DConditionModel(**UNET)
    with torch.no_grad():
        for module in unet.modules():
            kind = type(module).__name__
            if kind == "ResnetBlock2D":
                _zero(module.conv2)
            elif kind == "Transformer2DModel":
                _zero(module.proj_out)
        _pass_through(unet)
    return unet


def _zero(layer: Any) -> None:
    layer.weight.zero_()
    layer.bias.zero_()


def _pass_through(unet: UNet2DConditionModel) -> None:
    """Carry the input in pairs (+x, -x) from the first convolution over the last skip to the output."""
    count = 2 * UNET["in_channels"]
    unet.conv_in.weight[:count].zero_()
    unet.conv_in.bias[:count].zero_()
    last = unet.up_blocks[-1].resnets[-1].conv_shortcut
    inner = last.in_channels - UNET["block_out_channels"][0]
    last.weight[:count].zero_()
    last.bias[:count].zero_()
    _zero(unet.conv_out)
    for channel in range(UNET["in_channels"]):
        for half, sign in enumerate((1.0, -1.0)):
            index = 2 * channel + half
            unet.conv_in.weight[index, channel, 1, 1] = sign
            last.weight[index, inner + index, 0, 0] = 1.0
            unet.conv_out.weight[channel, index, 1, 1] = sign


def signal(device: torch.device | str = "cpu") -> Tensor:
    """The share of the clean latent's variance at every timestep: (1000,), falling from 1 to 0."""
    betas = torch.linspace(BETA[0] ** 0.5, BETA[1] ** 0.5, STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float().to(device)


def parameters(net: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in net.parameters())
