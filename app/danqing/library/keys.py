"""Names of tensors: those of the original Stable Diffusion code ("LDM") and of OpenCLIP to those of diffusers and transformers.

No torch: strings only. A `Route` says where a tensor of a file goes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

UNET = "model.diffusion_model."
VAE = "first_stage_model."
EMA = "model_ema."


class Route(NamedTuple):
    """A parameter that a tensor fills, or a third of it: `third` counts the three parts of OpenCLIP's joined q, k and v."""

    name: str
    third: int | None = None
    transposed: bool = False


_INNER = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_UNET_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d)\.(.+)")


def unet_name(name: str, layers: int) -> str | None:
    """A UNet weight's name in diffusers; `layers`: residual blocks a level. None: not a UNet's."""
    stem, _, end = name.rpartition(".")
    if stem in _UNET_ENDS:
        return f"{_UNET_ENDS[stem]}.{end}"
    if name.startswith("middle_block."):
        _, place, inner = name.split(".", 2)
        middle = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}.get(place)
        return None if middle is None else f"mid_block.{middle}.{inner if place == '1' else _inner(inner)}"
    found = _UNET_BLOCK.fullmatch(name)
    if found is None:
        return None
    index, part, rest = int(found[2]), found[3], found[4]
    if found[1] == "input_blocks":
        level, layer = divmod(index - 1, layers + 1)
        if rest.startswith("op."):
            return f"down_blocks.{level}.downsamplers.0.conv.{rest[3:]}"
        block = f"down_blocks.{level}"
    else:
        level, layer = divmod(index, layers + 1)
        if rest.startswith("conv."):
            return f"up_blocks.{level}.upsamplers.0.{rest}"
        block = f"up_blocks.{level}"
    return f"{block}.resnets.{layer}.{_inner(rest)}" if part == "0" else f"{block}.attentions.{layer}.{rest}"


def _inner(rest: str) -> str:
    for theirs, ours in _INNER.items():
        if rest.startswith(theirs + "."):
            return ours + rest[len(theirs) :]
    return rest


def ema_name(name: str) -> str:
    """Where a UNet weight's running mean lies in a checkpoint that has both; `name` begins with `UNET`."""
    return EMA + name.removeprefix("model.").replace(".", "")


_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_VAE_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)\.(\d+)\.(block|downsample|upsample)\.(.+)")


def vae_name(name: str, levels: int) -> str:
    """A VAE weight's name in diffusers, from LDM's or from diffusers' own, the older spelling too."""
    found = _VAE_BLOCK.fullmatch(name)
    if found is not None:
        side, way, level, kind, rest = found[1], found[2], int(found[3]), found[4], found[5]
        level = level if way == "down" else levels - 1 - level
        inner = f"resnets.{rest}" if kind == "block" else f"{way}samplers.0.{rest}"
        return f"{side}.{way}_blocks.{level}.{inner.replace('nin_shortcut', 'conv_shortcut')}"
    side, _, rest = name.partition(".")
    if rest.startswith("norm_out."):
        return f"{side}.conv_{rest}"
    if rest.startswith("mid."):
        _, part, inner = rest.split(".", 2)
        if part.startswith("block_"):
            return f"{side}.mid_block.resnets.{int(part[6:]) - 1}.{inner.replace('nin_shortcut', 'conv_shortcut')}"
        stem, _, end = inner.rpartition(".")
        return f"{side}.mid_block.attentions.0.{_VAE_ATTENTION.get(stem, stem)}.{end}"
    if rest.startswith("mid_block.attentions.0."):
        stem, _, end = rest.removeprefix("mid_block.attentions.0.").rpartition(".")
        return f"{side}.mid_block.attentions.0.{_VAE_OLD_ATTENTION.get(stem, stem)}.{end}"
    return name


_OPEN_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def open_clip_routes(name: str) -> tuple[Route, ...]:
    """Where a weight of OpenCLIP's text tower goes in transformers' `CLIPTextModel`; () for what it has no use for."""
    ends = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final.weight": "final_layer_norm.weight",
        "ln_final.bias": "final_layer_norm.bias",
    }
    if name in ends:
        return (Route(ends[name]),)
    if name == "text_projection":
        return (Route("text_projection.weight", transposed=True),)
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
    if found is None:
        return ()
    layer, stem, end = f"encoder.layers.{found[1]}", found[2], found[3]
    if stem == "attn.in_proj":
        return tuple(Route(f"{layer}.self_attn.{part}_proj.{end}", third) for third, part in enumerate("qkv"))
    return (Route(f"{layer}.{_OPEN_CLIP_BLOCK[stem]}.{end}"),) if stem in _OPEN_CLIP_BLOCK else ()


def clip_routes(name: str) -> tuple[Route, ...]:
    """The same for a tower in transformers' own names, with or without `text_model.` before them."""
    bare = name.removeprefix("text_model.")
    return () if bare.endswith("position_ids") else (Route(bare),)
