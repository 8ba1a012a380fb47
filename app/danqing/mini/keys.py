"""Names of weights: diffusers' and transformers' to those of the classic single file.

The layout is the one of the original Stable Diffusion repository (`model.diffusion_model.*`,
`first_stage_model.*`, `cond_stage_model.transformer.text_model.*`).
"""

from __future__ import annotations

import re

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
LEVELS = 4

_INNER = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_VAE_NAMES = {
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_UNET_BLOCK = re.compile(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)")
_VAE_BLOCK = re.compile(r"(encoder|decoder)\.(?:down|up)_blocks\.(\d)\.(resnets|\w+samplers)\.(\d)\.(.*)")


def unet_key(name: str) -> str:
    """A UNet weight's name in the single file."""
    for ours, theirs in _ENDS.items():
        if name.startswith(f"{ours}."):
            return UNET_PREFIX + name.replace(ours, theirs, 1)
    if name.startswith("mid_block."):
        part = ".".join(name.split(".")[1:3])
        return f"{UNET_PREFIX}middle_block.{_MIDDLE[part]}.{_inner(name.split('.', 3)[3])}"
    found = _UNET_BLOCK.fullmatch(name)
    if found is None:
        raise KeyError(name)
    side, level, kind, index, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    return UNET_PREFIX + (_down(level, kind, index, rest) if side == "down" else _up(level, kind, index, rest))


def _inner(rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{_INNER.get(head, head)}.{tail}"


def _down(level: int, kind: str, index: int, rest: str) -> str:
    if kind == "downsamplers":
        return f"input_blocks.{3 * (level + 1)}.0.{rest.replace('conv', 'op')}"
    return f"input_blocks.{3 * level + index + 1}.{int(kind == 'attentions')}.{_inner(rest)}"


def _up(level: int, kind: str, index: int, rest: str) -> str:
    if kind == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.{rest}"
    return f"output_blocks.{3 * level + index}.{int(kind == 'attentions')}.{_inner(rest)}"


def vae_key(name: str) -> str:
    """A VAE weight's name in the single file; decoder levels count the other way there."""
    found = _VAE_BLOCK.fullmatch(name)
    if found is not None:
        side, level, kind, index, rest = found[1], int(found[2]), found[3], found[4], found[5]
        way, level = ("down", level) if side == "encoder" else ("up", LEVELS - 1 - level)
        part = f"block.{index}" if kind == "resnets" else kind.removesuffix("rs").removesuffix("e") + "e"
        name = f"{side}.{way}.{level}.{part}.{rest}"
    for ours, theirs in _VAE_NAMES.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return VAE_PREFIX + name


def text_key(name: str) -> str:
    """A text encoder weight's name in the single file, whichever way transformers spells it."""
    return TEXT_PREFIX + name.removeprefix("text_model.")
