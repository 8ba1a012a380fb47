"""What networks a checkpoint's tensors make up: widths, levels, heads and the like, read from names and shapes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from danqing.library.keys import EMA, UNET, ema_name

Shapes = Mapping[str, tuple[int, ...]]
TextKind = Literal["clip_l", "open_clip_h", "open_clip_g"]

HEAD_WIDTH = 64
"""Width of an attention head in CLIP, and in the UNets of SD 2.x and SDXL."""


@dataclass(frozen=True, slots=True)
class UnetShape:
    """Widths per level, which levels attend to the text, heads (one number, or one a level), and the width of the text.

    `depths`: transformer blocks of each level's attention, the last one's of the middle; () is one each. `linear`: the
    projections around them are linear layers. `vector`: width of SDXL's added conditioning, 0 for none.
    """

    in_channels: int
    widths: tuple[int, ...]
    attends: tuple[bool, ...]
    layers: int
    heads: int | tuple[int, ...]
    context: int
    groups: int
    depths: tuple[int, ...] = ()
    linear: bool = False
    vector: int = 0
    out_channels: int = 4


@dataclass(frozen=True, slots=True)
class VaeShape:
    """Widths per level and residual blocks a level of the encoder."""

    widths: tuple[int, ...]
    layers: int
    groups: int
    latent: int = 4


@dataclass(frozen=True, slots=True)
class TextShape:
    """A CLIP text tower. `prefix`: what its tensors' names begin with. `projection`: width of the pooled output, 0 for none."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    activation: str
    kind: TextKind = "clip_l"
    prefix: str = "cond_stage_model.transformer."
    open_clip: bool = False
    """Its tensors have OpenCLIP's names."""
    projection: int = 0


@dataclass(frozen=True, slots=True)
class Tower:
    """Where a text encoder's tensors lie."""

    kind: TextKind
    prefix: str
    open_clip: bool


def towers(shapes: Shapes) -> tuple[Tower, ...]:
    """The text encoders of a single file, in the order in which their outputs are joined."""
    second, first = "conditioner.embedders.1.", "conditioner.embedders.0."
    found: list[Tower] = []
    if any(key.startswith(first + "transformer.") for key in shapes):
        found.append(Tower("clip_l", first + "transformer.", False))
    for prefix in (first, second):
        if any(key.startswith(prefix + "model.") for key in shapes):
            found.append(Tower("open_clip_g", prefix + "model.", True))
    if found:
        return tuple(found)
    if any(key.startswith("cond_stage_model.model.") for key in shapes):
        return (Tower("open_clip_h", "cond_stage_model.model.", True),)
    prefix = "cond_stage_model.transformer."
    if embedding := shapes.get(prefix + "text_model.embeddings.token_embedding.weight"):
        return (Tower("open_clip_h" if embedding[1] == 1024 else "clip_l", prefix, False),)
    # The names before the WebUI's time.
    return (Tower("clip_l", prefix, False),) if any(key.startswith(prefix + "embeddings.") for key in shapes) else ()


def with_means(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """A checkpoint that holds running means of the UNet's weights, as if it held them under the weights' own names.

    A file of the means alone has lost the dots in its names; those of a UNet beside them say where they stood.
    """
    return {
        key: shapes.get(ema_name(key), shape) if key.startswith(UNET) else shape
        for key, shape in shapes.items()
        if not key.startswith(EMA)
    }


def _level_starts(shapes: Shapes) -> tuple[list[int], int]:
    """The first block of every level, and residual blocks a level."""
    starts: list[int] = []
    layers, block, in_level = 0, 1, 0
    while any(key.startswith(f"{UNET}input_blocks.{block}.") for key in shapes):
        if f"{UNET}input_blocks.{block}.0.op.weight" in shapes:
            layers, in_level = in_level, 0
        else:
            starts += [block] if in_level == 0 else []
            in_level += 1
        block += 1
    if layers and in_level != layers:
        raise ValueError(f"a level of {in_level} blocks beside one of {layers}")
    return starts, layers or in_level


def unet_shape(shapes: Shapes, params: Mapping[str, Any]) -> UnetShape:
    """Raises KeyError, ValueError, TypeError, IndexError or StopIteration for what is no UNet of the family."""
    starts, layers = _level_starts(shapes)
    prefixes = [f"{UNET}input_blocks.{start}." for start in starts]
    widths = tuple(shapes[prefix + "0.out_layers.3.weight"][0] for prefix in prefixes)
    attends = tuple(prefix + "1.transformer_blocks.0.attn2.to_k.weight" in shapes for prefix in prefixes)
    middle = f"{UNET}middle_block."
    depths = tuple(_depth(shapes, prefix) or 1 for prefix in prefixes)
    if attends[-1] and depths[-1] != _depth(shapes, middle):
        raise ValueError("the middle is not as deep as the last level")
    inner = middle + "1.transformer_blocks.0.attn2.to_k.weight"
    projection = shapes[middle + "1.proj_in.weight"]
    linear = len(projection) == 2
    return UnetShape(
        in_channels=shapes[UNET + "input_blocks.0.0.weight"][1],
        widths=widths,
        attends=attends,
        layers=layers,
        heads=_heads(params, widths, linear),
        context=shapes[inner][1],
        groups=int(params.get("norm_num_groups", 32)),
        depths=(*depths[:-1], _depth(shapes, middle)),
        linear=linear,
        vector=shapes.get(UNET + "label_emb.0.0.weight", (0, 0))[1],
        out_channels=shapes[UNET + "out.2.weight"][0],
    )


def _depth(shapes: Shapes, prefix: str) -> int:
    depth = 0
    while f"{prefix}1.transformer_blocks.{depth}.attn2.to_k.weight" in shapes:
        depth += 1
    return depth


def _heads(params: Mapping[str, Any], widths: tuple[int, ...], linear: bool) -> int | tuple[int, ...]:
    """SD 1.x has eight heads at every width; SD 2.x and SDXL, known by their linear projections, heads of one width."""
    count, width = int(params.get("num_heads", -1)), int(params.get("num_head_channels", -1))
    if width > 0:
        return tuple(max(1, level // width) for level in widths)
    if count > 0:
        return count
    return tuple(max(1, level // HEAD_WIDTH) for level in widths) if linear else 8


def vae_shape(shapes: Shapes, prefix: str, params: Mapping[str, Any]) -> VaeShape:
    """Of LDM's or diffusers' names below `prefix`. Raises KeyError, ValueError or IndexError."""
    patterns = ("encoder.down.{}.block.{}.conv1.weight", "encoder.down_blocks.{}.resnets.{}.conv1.weight")
    pattern = next((prefix + p for p in patterns if prefix + p.format(0, 0) in shapes), None)
    if pattern is None:
        raise ValueError("a VAE without levels")
    widths: list[int] = []
    while (key := pattern.format(len(widths), 0)) in shapes:
        widths.append(shapes[key][0])
    layers = 0
    while pattern.format(0, layers) in shapes:
        layers += 1
    latent = shapes[prefix + "decoder.conv_in.weight"][1]
    if latent != 4 or prefix + "quant_conv.weight" not in shapes:
        raise ValueError(f"a VAE with latents of {latent} channels")
    return VaeShape(tuple(widths), layers, int(params.get("norm_num_groups", 32)), latent)


def text_shape(shapes: Shapes, tower: Tower, params: Mapping[str, Any], unet: UnetShape) -> TextShape:
    """Heads are 64 wide; a tower too narrow for that takes the UNet's number of heads. Raises KeyError or IndexError."""
    if tower.open_clip:
        prefix = tower.prefix
        vocabulary, width = shapes[prefix + "token_embedding.weight"]
        positions = shapes[prefix + "positional_embedding"][0]
        layer, inner = prefix + "transformer.resblocks.{}.mlp.c_fc.weight", "gelu"
        projection = shapes.get(prefix + "text_projection", (0, 0))[1]
    else:
        prefix = next(
            p for p in (tower.prefix + "text_model.", tower.prefix) if p + "embeddings.token_embedding.weight" in shapes
        )
        vocabulary, width = shapes[prefix + "embeddings.token_embedding.weight"]
        positions = shapes[prefix + "embeddings.position_embedding.weight"][0]
        layer, inner = prefix + "encoder.layers.{}.mlp.fc1.weight", "quick_gelu" if tower.kind == "clip_l" else "gelu"
        projection = 0
    layers = 0
    while layer.format(layers) in shapes:
        layers += 1
    fallback = unet.heads if isinstance(unet.heads, int) else unet.heads[0]
    return TextShape(
        width=width,
        layers=layers,
        heads=int(params.get("num_attention_heads", width // HEAD_WIDTH if width >= 512 else fallback)),
        inner=shapes[layer.format(0)][0],
        vocabulary=vocabulary,
        positions=positions,
        activation=str(params.get("hidden_act", inner)),
        kind=tower.kind,
        prefix=tower.prefix,
        open_clip=tower.open_clip,
        projection=projection if tower.kind == "open_clip_g" else 0,
    )
