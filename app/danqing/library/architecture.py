"""What a checkpoint is, decided by its tensors' names and shapes, with the YAML beside it for what shapes cannot say.

No torch. The layout is that of the original Stable Diffusion code ("LDM"): `model.diffusion_model.*`, `first_stage_model.*`,
`cond_stage_model.transformer.*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from danqing.errors import DanqingError

Shapes = Mapping[str, tuple[int, ...]]

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."


@dataclass(frozen=True, slots=True)
class UnetShape:
    """Widths per level, which levels attend to the text, heads, and the width of the text."""

    in_channels: int
    widths: tuple[int, ...]
    attends: tuple[bool, ...]
    layers: int
    heads: int
    context: int
    groups: int


@dataclass(frozen=True, slots=True)
class VaeShape:
    """Widths per level and residual blocks a level of the encoder."""

    widths: tuple[int, ...]
    layers: int
    groups: int


@dataclass(frozen=True, slots=True)
class TextShape:
    """The CLIP text tower."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    activation: str


@dataclass(frozen=True, slots=True)
class Architecture:
    """An SD 1.x checkpoint. `scale` is the latent's factor (0.18215)."""

    unet: UnetShape
    vae: VaeShape
    text: TextShape
    scale: float


def recognise(name: str, shapes: Shapes, config: Path | None) -> Architecture:
    """The architecture of a checkpoint.

    Args:
        name: what to call the file in an error.
        shapes: tensor name → shape.
        config: the LDM YAML beside the file.

    Raises:
        DanqingError: `model_broken`, naming what is missing or what other kind of model this seems to be.
    """
    yaml_params = _params(name, config)
    for prefix, what in ((UNET, "UNet"), (VAE, "VAE"), (TEXT, "CLIP text encoder")):
        if not any(key.startswith(prefix) for key in shapes):
            raise DanqingError("model_broken", name=name, reason=_other_kind(shapes) or f"it holds no {what} of SD 1.x")
    try:
        unet = _unet(shapes, yaml_params.get("unet_config", {}))
        vae = _vae(shapes, yaml_params.get("first_stage_config", {}).get("ddconfig", {}))
        text = _text(shapes, yaml_params.get("cond_stage_config", {}), unet.heads)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise DanqingError("model_broken", name=name, reason=f"its tensors are not those of SD 1.x ({error})") from None
    if unet.in_channels != 4:
        raise DanqingError(
            "model_broken", name=name, reason=f"UNets with {unet.in_channels} input channels are not supported yet"
        )
    return Architecture(unet, vae, text, float(yaml_params.get("scale_factor", 0.18215)))


def _params(name: str, config: Path | None) -> dict[str, Any]:
    """The YAML's parameters, each `*_config` replaced by its own `params`."""
    if config is None:
        return {}
    try:
        loaded = yaml.safe_load(config.read_text("utf-8"))
        params: dict[str, Any] = dict(loaded["model"]["params"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DanqingError(
            "model_broken", name=name, reason=f"{config.name} cannot be read ({type(error).__name__})"
        ) from None
    for key in ("unet_config", "first_stage_config", "cond_stage_config"):
        section = params.get(key) or {}
        params[key] = (section.get("params") or {}) if isinstance(section, dict) else {}
    return params


def _other_kind(shapes: Shapes) -> str:
    if any(key.startswith("conditioner.embedders.") for key in shapes):
        return "it is an SDXL checkpoint, which is not supported yet"
    if any(key.startswith("cond_stage_model.model.") for key in shapes):
        return "it is an SD 2.x checkpoint, which is not supported yet"
    if any("lora" in key for key in shapes):
        return "it is a LoRA, not a checkpoint; it belongs into models/Lora"
    if any(key.startswith(("decoder.", "encoder.")) for key in shapes):
        return "it is a VAE, not a checkpoint; it belongs into models/VAE"
    return ""


def _unet(shapes: Shapes, params: Mapping[str, Any]) -> UnetShape:
    first = shapes[UNET + "input_blocks.0.0.weight"]
    widths: list[int] = []
    attends: list[bool] = []
    layers = 0
    block, level_layers = 1, 0
    while any(key.startswith(f"{UNET}input_blocks.{block}.") for key in shapes):
        prefix = f"{UNET}input_blocks.{block}."
        if prefix + "0.op.weight" in shapes:
            layers, level_layers = level_layers, 0
        else:
            if level_layers == 0:
                widths.append(shapes[prefix + "0.out_layers.3.weight"][0])
                attends.append(prefix + "1.transformer_blocks.0.attn2.to_k.weight" in shapes)
            level_layers += 1
        block += 1
    context = next(
        shape[1] for key, shape in shapes.items() if key.startswith(UNET) and key.endswith("attn2.to_k.weight")
    )
    return UnetShape(
        in_channels=first[1],
        widths=tuple(widths),
        attends=tuple(attends),
        layers=layers or level_layers,
        heads=int(params.get("num_heads", 8)),
        context=context,
        groups=int(params.get("norm_num_groups", 32)),
    )


def _vae(shapes: Shapes, params: Mapping[str, Any]) -> VaeShape:
    widths: list[int] = []
    while (key := f"{VAE}encoder.down.{len(widths)}.block.0.conv1.weight") in shapes:
        widths.append(shapes[key][0])
    layers = 0
    while f"{VAE}encoder.down.0.block.{layers}.conv1.weight" in shapes:
        layers += 1
    if not widths:
        raise ValueError("VAE without levels")
    return VaeShape(tuple(widths), layers, int(params.get("norm_num_groups", 32)))


def _text(shapes: Shapes, params: Mapping[str, Any], unet_heads: int) -> TextShape:
    """CLIP's heads are 64 wide; a tower too narrow for that takes the UNet's number of heads."""
    prefix = next(p for p in (TEXT + "text_model.", TEXT) if p + "embeddings.token_embedding.weight" in shapes)
    vocabulary, width = shapes[prefix + "embeddings.token_embedding.weight"]
    layers = 0
    while f"{prefix}encoder.layers.{layers}.mlp.fc1.weight" in shapes:
        layers += 1
    heads = int(params.get("num_attention_heads", width // 64 if width >= 512 else unet_heads))
    return TextShape(
        width=width,
        layers=layers,
        heads=heads,
        inner=shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0],
        vocabulary=vocabulary,
        positions=shapes[prefix + "embeddings.position_embedding.weight"][0],
        activation=str(params.get("hidden_act", "quick_gelu")),
    )
