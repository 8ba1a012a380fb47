"""Checkpoints of every known architecture in the original code's layout: all their tensors under their real names, narrow.

The lists are made from the published configurations of the original code (v1-inference.yaml, v2-inference.yaml, sd_xl_base.yaml,
sd_xl_refiner.yaml): `width` stands for the UNet's 320 (the refiner's 384), everything else shrinks with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """`attends`: transformer blocks of every level, 0 for none; `middle`: the middle's."""

    width: int
    multiples: tuple[int, ...]
    attends: tuple[int, ...]
    middle: int
    context: int
    linear: bool
    in_channels: int = 4
    vector: int = 0
    texts: tuple[str, ...] = ("clip",)
    vae: int = 32
    text_width: int = 64
    g_width: int = 0
    layers: int = 3
    vocabulary: int = 400
    """The real one has 49408 tokens."""


SD1 = Layout(32, (1, 2, 4, 4), (1, 1, 1, 0), 1, 64, False)
SD2 = Layout(32, (1, 2, 4, 4), (1, 1, 1, 0), 1, 64, True, texts=("open_clip",), layers=4)
SDXL = Layout(
    32, (1, 2, 4), (0, 2, 3), 3, 64 + 128, True, vector=128 + 6 * 32, texts=("clip_xl", "open_clip_xl"), g_width=128
)
REFINER = Layout(
    32, (1, 2, 4, 4), (0, 2, 2, 0), 2, 128, True, vector=128 + 5 * 32, texts=("open_clip_refiner",), g_width=128
)
FULL = {
    "sd1": Layout(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 768, False, vae=128, text_width=768, layers=12, vocabulary=49408),
    "sd2": Layout(
        320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 1024, True, 4, 0, ("open_clip",), 128, 1024, layers=24, vocabulary=49408
    ),
    "sdxl": Layout(
        320,
        (1, 2, 4),
        (0, 2, 10),
        10,
        2048,
        True,
        vector=2816,
        texts=("clip_xl", "open_clip_xl"),
        vae=128,
        text_width=768,
        g_width=1280,
        layers=12,
        vocabulary=49408,
    ),
    "sdxl-refiner": Layout(
        384,
        (1, 2, 4, 4),
        (0, 4, 4, 0),
        4,
        1280,
        True,
        vector=2560,
        texts=("open_clip_refiner",),
        vae=128,
        g_width=1280,
        layers=12,
        vocabulary=49408,
    ),
}
"""The architectures at their real size; OpenCLIP's towers have 24 and 32 layers."""


def shapes(layout: Layout) -> Shapes:
    """Every tensor of a checkpoint."""
    found: Shapes = {}
    found |= {f"model.diffusion_model.{name}": shape for name, shape in _unet(layout)}
    found |= {f"first_stage_model.{name}": shape for name, shape in _vae(layout.vae)}
    for text in layout.texts:
        found |= dict(_text(text, layout))
    return found


def tensors(layout: Layout, seed: int = 0, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """Random numbers in that layout that keep a picture's size in bounds."""
    return {name: value.to(dtype) for name, value in _drawn(layout, seed).items()}


@cache
def _drawn(layout: Layout, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    for name, shape in shapes(layout).items():
        value = torch.randn(shape, generator=generator)
        if "embedding" in name:
            value *= 0.3
        elif len(shape) >= 2:
            value *= 0.8 / math.sqrt(math.prod(shape[1:]))
        else:
            value = 1 + 0.1 * value if name.endswith("weight") else 0.05 * value
        found[name] = value.half()
    return found


def yaml(layout: Layout, prediction: str | None = None, use_ema: bool = False) -> str:
    """What shapes of a narrow net cannot say: how many heads."""
    heads = "num_head_channels: 16" if layout.linear else "num_heads: 4"
    lines = ["model:", "  params:", f"    use_ema: {str(use_ema).lower()}"]
    lines += [f"    parameterization: {prediction}"] if prediction else []
    return "\n".join([*lines, "    unet_config:", "      params:", f"        {heads}", ""])


def _both(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _resnet(name: str, before: int, after: int, time: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _both(f"{name}.in_layers.0", (before,))
    yield from _both(f"{name}.in_layers.2", (after, before, 3, 3))
    yield from _both(f"{name}.emb_layers.1", (after, time))
    yield from _both(f"{name}.out_layers.0", (after,))
    yield from _both(f"{name}.out_layers.3", (after, after, 3, 3))
    if before != after:
        yield from _both(f"{name}.skip_connection", (after, before, 1, 1))


def _attention(name: str, width: int, depth: int, layout: Layout) -> Iterator[tuple[str, tuple[int, ...]]]:
    projection = (width, width) if layout.linear else (width, width, 1, 1)
    yield from _both(f"{name}.norm", (width,))
    yield from _both(f"{name}.proj_in", projection)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, source in (("attn1", width), ("attn2", layout.context)):
            yield f"{block}.{attention}.to_q.weight", (width, width)
            yield f"{block}.{attention}.to_k.weight", (width, source)
            yield f"{block}.{attention}.to_v.weight", (width, source)
            yield from _both(f"{block}.{attention}.to_out.0", (width, width))
        yield from _both(f"{block}.ff.net.0.proj", (8 * width, width))
        yield from _both(f"{block}.ff.net.2", (width, 4 * width))
        for norm in ("norm1", "norm2", "norm3"):
            yield from _both(f"{block}.{norm}", (width,))
    yield from _both(f"{name}.proj_out", projection)


def _unet(layout: Layout) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, time = layout.width, 4 * layout.width
    yield from _both("time_embed.0", (time, width))
    yield from _both("time_embed.2", (time, time))
    if layout.vector:
        yield from _both("label_emb.0.0", (time, layout.vector))
        yield from _both("label_emb.0.2", (time, time))
    yield from _both("input_blocks.0.0", (width, layout.in_channels, 3, 3))
    here, block, skips = width, 1, [width]
    for level, multiple in enumerate(layout.multiples):
        for _ in range(2):
            yield from _resnet(f"input_blocks.{block}.0", here, width * multiple, time)
            here = width * multiple
            if layout.attends[level]:
                yield from _attention(f"input_blocks.{block}.1", here, layout.attends[level], layout)
            skips.append(here)
            block += 1
        if level < len(layout.multiples) - 1:
            yield from _both(f"input_blocks.{block}.0.op", (here, here, 3, 3))
            skips.append(here)
            block += 1
    yield from _resnet("middle_block.0", here, here, time)
    yield from _attention("middle_block.1", here, layout.middle, layout)
    yield from _resnet("middle_block.2", here, here, time)
    block = 0
    for level, multiple in reversed(list(enumerate(layout.multiples))):
        for index in range(3):
            yield from _resnet(f"output_blocks.{block}.0", here + skips.pop(), width * multiple, time)
            here = width * multiple
            if layout.attends[level]:
                yield from _attention(f"output_blocks.{block}.1", here, layout.attends[level], layout)
            if level and index == 2:
                place = 2 if layout.attends[level] else 1
                yield from _both(f"output_blocks.{block}.{place}.conv", (here, here, 3, 3))
            block += 1
    yield from _both("out.0", (width,))
    yield from _both("out.2", (4, width, 3, 3))


def _vae_resnet(name: str, before: int, after: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _both(f"{name}.norm1", (before,))
    yield from _both(f"{name}.conv1", (after, before, 3, 3))
    yield from _both(f"{name}.norm2", (after,))
    yield from _both(f"{name}.conv2", (after, after, 3, 3))
    if before != after:
        yield from _both(f"{name}.nin_shortcut", (after, before, 1, 1))


def _vae_middle(side: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _vae_resnet(f"{side}.mid.block_1", width, width)
    yield from _both(f"{side}.mid.attn_1.norm", (width,))
    for part in ("q", "k", "v", "proj_out"):
        yield from _both(f"{side}.mid.attn_1.{part}", (width, width, 1, 1))
    yield from _vae_resnet(f"{side}.mid.block_2", width, width)


def _vae(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    multiples = (1, 2, 4, 4)
    yield from _both("encoder.conv_in", (width, 3, 3, 3))
    here = width
    for level, multiple in enumerate(multiples):
        for index in range(2):
            yield from _vae_resnet(f"encoder.down.{level}.block.{index}", here, width * multiple)
            here = width * multiple
        if level < 3:
            yield from _both(f"encoder.down.{level}.downsample.conv", (here, here, 3, 3))
    yield from _vae_middle("encoder", here)
    yield from _both("encoder.norm_out", (here,))
    yield from _both("encoder.conv_out", (8, here, 3, 3))
    yield from _both("quant_conv", (8, 8, 1, 1))
    yield from _both("post_quant_conv", (4, 4, 1, 1))
    yield from _both("decoder.conv_in", (here, 4, 3, 3))
    yield from _vae_middle("decoder", here)
    for level, multiple in reversed(list(enumerate(multiples))):
        for index in range(3):
            yield from _vae_resnet(f"decoder.up.{level}.block.{index}", here, width * multiple)
            here = width * multiple
        if level:
            yield from _both(f"decoder.up.{level}.upsample.conv", (here, here, 3, 3))
    yield from _both("decoder.norm_out", (here,))
    yield from _both("decoder.conv_out", (3, here, 3, 3))


def _text(kind: str, layout: Layout) -> Iterator[tuple[str, tuple[int, ...]]]:
    if kind.startswith("clip"):
        prefix = "conditioner.embedders.0.transformer." if kind == "clip_xl" else "cond_stage_model.transformer."
        rows = _clip(layout.text_width, layout.layers, layout.vocabulary)
    else:
        number = {"open_clip": "", "open_clip_xl": "1", "open_clip_refiner": "0"}[kind]
        prefix = f"conditioner.embedders.{number}.model." if number else "cond_stage_model.model."
        full = layout.vocabulary > 1000
        layers = (32 if number else 24) if full else layout.layers
        rows = _open_clip(layout.g_width or layout.text_width, layers, layout.vocabulary)
    yield from ((prefix + name, shape) for name, shape in rows)


def _clip(width: int, layers: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "text_model.embeddings.token_embedding.weight", (vocabulary, width)
    yield "text_model.embeddings.position_embedding.weight", (77, width)
    for index in range(layers):
        layer = f"text_model.encoder.layers.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _both(f"{layer}.self_attn.{part}", (width, width))
        yield from _both(f"{layer}.layer_norm1", (width,))
        yield from _both(f"{layer}.layer_norm2", (width,))
        yield from _both(f"{layer}.mlp.fc1", (4 * width, width))
        yield from _both(f"{layer}.mlp.fc2", (width, 4 * width))
    yield from _both("text_model.final_layer_norm", (width,))


def _open_clip(width: int, layers: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "positional_embedding", (77, width)
    yield "text_projection", (width, width)
    yield "logit_scale", ()
    yield "token_embedding.weight", (vocabulary, width)
    for index in range(layers):
        layer = f"transformer.resblocks.{index}"
        yield from _both(f"{layer}.ln_1", (width,))
        yield f"{layer}.attn.in_proj_weight", (3 * width, width)
        yield f"{layer}.attn.in_proj_bias", (3 * width,)
        yield from _both(f"{layer}.attn.out_proj", (width, width))
        yield from _both(f"{layer}.ln_2", (width,))
        yield from _both(f"{layer}.mlp.c_fc", (4 * width, width))
        yield from _both(f"{layer}.mlp.c_proj", (width, 4 * width))
    yield from _both("ln_final", (width,))
