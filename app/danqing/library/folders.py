"""What a folder in diffusers' layout is: its own configurations, read into the same shapes as a single file's. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.errors import DanqingError
from danqing.library.architecture import (
    SD_SCALE,
    SDXL_SCALE,
    Architecture,
    Prediction,
    check_parts,
    checked_betas,
    checked_scale,
    family_of,
)
from danqing.library.shapes import TextKind, TextShape, UnetShape, VaeShape
from danqing.library.weights import Weights

Config = Mapping[str, Any]


def recognise_folder(name: str, weights: Weights) -> Architecture:
    """The architecture of a folder.

    Raises:
        DanqingError: `model_broken`, naming what is missing.
    """
    configs = weights.configs
    needed = {"unet": "UNet", "vae": "VAE"}
    for part, what in needed.items():
        if part not in configs:
            raise DanqingError("model_broken", name=name, reason=f"the folder holds no {what}")
    try:
        texts = tuple(_text(part, configs[part]) for part in ("text_encoder", "text_encoder_2") if part in configs)
        if not texts:
            raise ValueError("no text encoder")
        unet, vae = _unet(configs["unet"]), _vae(configs["vae"])
        family = family_of(texts)
        default = SDXL_SCALE if family.startswith("sdxl") else SD_SCALE
        scale = checked_scale(float(configs["vae"].get("scaling_factor", default)))
        schedule = configs.get("scheduler", {})
        betas = checked_betas(
            float(schedule.get("beta_start", 0.00085)),
            float(schedule.get("beta_end", 0.012)),
            int(schedule.get("num_train_timesteps", 1000)),
        )
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        reason = f"its configurations are not those of Stable Diffusion ({str(error)[:200] or type(error).__name__})"
        raise DanqingError("model_broken", name=name, reason=reason) from None
    check_parts(name, unet, texts, family)
    stated = str(schedule.get("prediction_type", "epsilon"))
    zero = schedule.get("rescale_betas_zero_snr") is True
    prediction: Prediction = "v" if stated == "v_prediction" else "epsilon"
    return Architecture(unet, vae, texts, scale, family, prediction, betas=betas, zero_snr=zero)


def _unet(config: Config) -> UnetShape:
    widths = tuple(int(width) for width in config["block_out_channels"])
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    depths = config.get("transformer_layers_per_block", 1)
    timed = config.get("addition_embed_type") == "text_time"
    if config.get("class_embed_type") or (config.get("addition_embed_type") and not timed):
        raise ValueError("a UNet with other conditioning than text and size")
    return UnetShape(
        in_channels=int(config["in_channels"]),
        widths=widths,
        attends=tuple("CrossAttn" in str(kind) for kind in config["down_block_types"]),
        layers=int(config.get("layers_per_block", 2)),
        heads=int(heads) if isinstance(heads, int) else tuple(int(n) for n in heads),
        context=int(config["cross_attention_dim"]),
        groups=int(config.get("norm_num_groups", 32)),
        depths=(int(depths),) * len(widths) if isinstance(depths, int) else tuple(int(n) for n in depths),
        linear=bool(config.get("use_linear_projection", False)),
        vector=int(config["projection_class_embeddings_input_dim"]) if timed else 0,
        out_channels=int(config.get("out_channels", 4)),
    )


def _vae(config: Config) -> VaeShape:
    if int(config.get("latent_channels", 4)) != 4:
        raise ValueError(f"a VAE with latents of {config['latent_channels']} channels")
    return VaeShape(
        widths=tuple(int(width) for width in config["block_out_channels"]),
        layers=int(config.get("layers_per_block", 2)),
        groups=int(config.get("norm_num_groups", 32)),
    )


def _text(part: str, config: Config) -> TextShape:
    width = int(config["hidden_size"])
    projected = "CLIPTextModelWithProjection" in (config.get("architectures") or ())
    kind: TextKind = "open_clip_g" if part == "text_encoder_2" or projected else "clip_l"
    if kind == "clip_l" and str(config.get("hidden_act", "quick_gelu")) == "gelu":
        kind = "open_clip_h"
    layers = int(config["num_hidden_layers"])
    return TextShape(
        width=width,
        # SD 2.x uses its encoder's last layer but one; folders leave the last one out, and a layer that does nothing
        # takes its place so that layers count alike.
        layers=layers + 1 if kind == "open_clip_h" and layers % 2 else layers,
        heads=int(config["num_attention_heads"]),
        inner=int(config["intermediate_size"]),
        vocabulary=int(config.get("vocab_size", 49408)),
        positions=int(config.get("max_position_embeddings", 77)),
        activation=str(config.get("hidden_act", "quick_gelu")),
        kind=kind,
        prefix=f"{part}.",
        projection=int(config.get("projection_dim", width)) if kind == "open_clip_g" else 0,
    )
