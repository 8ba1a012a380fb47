"""The trained parts as one classic checkpoint, and that checkpoint as networks again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from danqing.mini.config import ldm_config
from danqing.mini.keys import text_key, unet_key, vae_key
from danqing.mini.nets import SCALE, SCHEDULE, TEXT, UNET, VAE, VOCABULARY, new_text, new_unet
from danqing.mini.parallel import Flat
from danqing.mini.train_vae import Windows, load_vae
from danqing.mini.words import Words, clip_tokenizer

WEIGHTS = Path(__file__).resolve().parent / "weights"
NAME = "danqing-mini"
RECIPE = (
    "trained from nothing on procedurally drawn, exactly captioned scenes (English and Chinese): VAE from a linear "
    "start, text encoder first on the scene's attributes, UNet by a curriculum of shapes, places, pairs, people, things"
)


def checkpoint() -> Path:
    """The shipped single file."""
    return WEIGHTS / f"{NAME}.safetensors"


def export(out: Path, folder: Path, figures: dict[str, Any] | None = None) -> Path:
    """Write the single file and its YAML from a training folder; returns the single file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    vae, unet, text = _trained(out)
    tensors = {vae_key(k): v for k, v in _ldm_attention(vae.state_dict()).items()}
    tensors |= {unet_key(k): v for k, v in unet.state_dict().items()}
    tensors |= {text_key(k): v for k, v in text.state_dict().items() if "position_ids" not in k}
    samples = int(torch.load(out / "unet.pt", map_location="cpu", weights_only=True)["samples"])
    metadata = _metadata(latent_to_rgb(vae), samples, figures or {})
    halves = {k: v.detach().half().contiguous().cpu() for k, v in tensors.items()}
    save_file(halves, f"{path}.tmp", metadata)
    os.replace(f"{path}.tmp", path)
    path.with_suffix(".yaml").write_text(ldm_config(), "utf-8")
    return path


def _metadata(latent_rgb: dict[str, Any], samples: int, figures: dict[str, Any]) -> dict[str, str]:
    return {
        "modelspec.title": NAME,
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.license": "Apache-2.0",
        "modelspec.resolution": "128x128",
        "modelspec.prediction_type": "epsilon",
        "danqing.recipe": f"{RECIPE}; {samples} UNet samples",
        "danqing.figures": json.dumps(figures),
        "danqing.latent_rgb": json.dumps(latent_rgb),
    }


def _trained(out: Path) -> tuple[AutoencoderKL, UNet2DConditionModel, CLIPTextModel]:
    """The nets of a training folder with their averaged weights, folded and widened for the world."""
    vae = load_vae(out, "decoder.pt" if (out / "decoder.pt").exists() else "vae.pt").cpu()
    shift, spread = torch.load(out / "statistics.pt", map_location="cpu", weights_only=True)
    fold_statistics(vae, shift, spread)
    words = Words.load(out / "words.json")
    unet, text = new_unet(), new_text(len(words))
    states = torch.load(out / "unet.pt", map_location="cpu", weights_only=True)["flats"]
    for net, state in zip((unet, text), states, strict=True):
        Flat(net.parameters()).flat.data.copy_(state["mean"])
    return vae, unet, widen_text(text, words.used)


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, shift: Tensor, spread: Tensor) -> None:
    """Move the latents' standardisation into the two 1x1 convolutions, so that SCALE is true."""
    into, out_of = vae.quant_conv, vae.post_quant_conv
    unit = spread * SCALE
    out_of.bias += out_of.weight[:, :, 0, 0] @ shift
    out_of.weight *= unit.view(1, 4, 1, 1)
    into.weight[:4] /= unit.view(4, 1, 1, 1)
    into.bias[:4] = (into.bias[:4] - shift) / unit
    into.bias[4:] -= 2 * unit.log()


@torch.no_grad()
def widen_text(text: CLIPTextModel, used: list[int]) -> CLIPTextModel:
    """The encoder with CLIP's whole token table: all words never trained share the unknown's row."""
    full = CLIPTextModel(CLIPTextConfig(**TEXT))
    state = dict(text.state_dict())
    key = next(k for k in state if k.endswith("token_embedding.weight"))
    table = state[key][0].repeat(VOCABULARY, 1)
    table[torch.tensor(used)] = state[key][1:]
    state[key] = table
    full.load_state_dict(state)
    return full


def _ldm_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The VAE's attention as 1x1 convolutions, as the classic layout has it."""
    inner = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
    return {k: v[:, :, None, None] if k.endswith(inner) else v for k, v in state.items()}


@torch.no_grad()
def latent_to_rgb(vae: AutoencoderKL, count: int = 16) -> dict[str, Any]:
    """Least squares from scaled latents of `count` scenes to RGB in [-1, 1]: {"matrix": 4x3, "bias": 3}."""
    pictures = Windows(9).batch(count, full=True)
    latents = vae.encode(pictures).latent_dist.mean * SCALE
    inputs = latents.permute(0, 2, 3, 1).reshape(-1, 4).double()
    colours = nn.functional.avg_pool2d(pictures, 8).permute(0, 2, 3, 1).reshape(-1, 3).double()
    ones = torch.ones(len(inputs), 1, dtype=torch.float64)
    solved = torch.linalg.lstsq(torch.cat([inputs, ones], 1), colours).solution
    rounded = np.round(solved.numpy(), 5).tolist()
    return {"matrix": rounded[:4], "bias": rounded[4]}


def load_pipeline(path: Path | None = None) -> StableDiffusionPipeline:
    """diffusers' pipeline (float32, DPM++ 2M Karras) over our own single file."""
    with safe_open(str(path or checkpoint()), "pt") as file:
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
    text = CLIPTextModel(CLIPTextConfig(**TEXT))
    for net, name_of in ((unet, unet_key), (vae, vae_key), (text, text_key)):
        own = net.state_dict()
        net.load_state_dict({k: tensors[name_of(k)].reshape(v.shape) for k, v in own.items()})
        net.eval().requires_grad_(False)
    scheduler = DPMSolverMultistepScheduler(
        **{k: v for k, v in SCHEDULE.items() if k not in ("clip_sample", "set_alpha_to_one")},
        algorithm_type="dpmsolver++",
        use_karras_sigmas=True,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
