"""Small control models with random weights, written in the layouts that real ones have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .peers import randomised

ENCODER_WIDTH, ENCODER_VECTOR = 64, 32
TOKENS = 3
"""Of the IP-Adapter plus."""


def t2i_adapter(unet: Any, seed: int, kind: str = "full_adapter", in_channels: int = 3) -> Any:
    """diffusers' T2I-Adapter for a UNet."""
    from diffusers import T2IAdapter

    widths = list(unet.config.block_out_channels)
    channels = widths[:-1] if kind == "light_adapter" else widths
    blocks = 4 if kind == "light_adapter" else 2
    return randomised(T2IAdapter(in_channels, channels, blocks, 8, kind), seed, 1.5)


def original_names(adapter: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors as TencentARC publishes them: blocks counted through, or levels for light ones."""
    found = {}
    for name, value in adapter.state_dict().items():
        bare = name.removeprefix("adapter.")
        if row := re.fullmatch(r"body\.(\d+)\.resnets\.(\d+)\.(.+)", bare):
            light = adapter.config.adapter_type == "light_adapter"
            bare = (
                f"body.{row[1]}.body.{row[2]}.{row[3]}" if light else f"body.{2 * int(row[1]) + int(row[2])}.{row[3]}"
            )
        elif (row := re.fullmatch(r"body\.(\d+)\.in_conv\.(.+)", bare)) and "light" not in adapter.config.adapter_type:
            bare = f"body.{2 * int(row[1])}.in_conv.{row[2]}"
        found[bare] = value.contiguous()
    return found


def image_encoder(data: Path, folder: str = "small", width: int = ENCODER_WIDTH, vector: int = ENCODER_VECTOR) -> Any:
    """transformers' CLIP image encoder, written where the engine looks for one."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
        projection_dim=vector,
        hidden_act="gelu",
    )
    made = randomised(CLIPVisionModelWithProjection(config), 11)
    place = data / "models" / "clip_vision" / folder
    place.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"num_attention_heads": 4, "hidden_act": "gelu"}), "utf-8")
    return made


def ip_adapter(unet: Any, seed: int, plus: bool) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter's two tables, plain or plus."""
    generator, context = torch.Generator().manual_seed(seed), unet.config.cross_attention_dim

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / (shape[-1] ** 0.5 if len(shape) > 1 else 10)

    layers = {}
    places = [module for name, module in unet.named_modules() if name.endswith(".attn2")]
    for number, place in enumerate(places):
        for part in "kv":
            layers[f"{2 * number + 1}.to_{part}_ip.weight"] = draw(place.to_q.out_features, context)
    if not plus:
        project = {
            "proj.weight": draw(4 * context, ENCODER_VECTOR) * 5,
            "proj.bias": draw(4 * context),
            "norm.weight": 1 + draw(context),
            "norm.bias": draw(context),
        }
        return {"image_proj": project, "ip_adapter": layers}
    inner = 64
    project = {
        "latents": draw(1, TOKENS, inner) * inner**0.5,
        "proj_in.weight": draw(inner, ENCODER_WIDTH),
        "proj_in.bias": draw(inner),
        "proj_out.weight": draw(context, inner),
        "proj_out.bias": draw(context),
        "norm_out.weight": 1 + draw(context),
        "norm_out.bias": draw(context),
    }
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            project[f"layers.{layer}.{norm}.weight"] = 1 + draw(inner)
            project[f"layers.{layer}.{norm}.bias"] = draw(inner)
        project[f"layers.{layer}.0.to_q.weight"] = draw(inner, inner)
        project[f"layers.{layer}.0.to_kv.weight"] = draw(2 * inner, inner)
        project[f"layers.{layer}.0.to_out.weight"] = draw(inner, inner)
        project[f"layers.{layer}.1.1.weight"] = draw(4 * inner, inner)
        project[f"layers.{layer}.1.3.weight"] = draw(inner, 4 * inner)
    return {"image_proj": project, "ip_adapter": layers}


def flat(tables: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The two tables as a `.safetensors` file has them."""
    return {f"{table}.{name}": value.contiguous() for table, rows in tables.items() for name, value in rows.items()}
