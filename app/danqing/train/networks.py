"""The checkpoint that a training starts from, as networks in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danqing.engine.models import Model, TextEncoder, load
from danqing.engine.schedules import linear_alphas
from danqing.errors import DanqingError
from danqing.library.index import Library
from danqing.library.weights import is_folder_model
from danqing.train.recipe import Precision, TrainRequest

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(slots=True)
class Networks:
    """A checkpoint's networks on the device, all frozen. alphas: (timesteps,) float32, the signal's share of the variance."""

    model: Model
    device: torch.device
    alphas: torch.Tensor

    @property
    def unet(self) -> Any:
        return self.model.unet

    @property
    def vae(self) -> Any:
        return self.model.vae

    @property
    def encoder(self) -> TextEncoder:
        return self.model.encoders[0]

    @property
    def text(self) -> Any:
        """The text encoder's module."""
        return self.encoder.module

    @property
    def is_v(self) -> bool:
        """Whether the UNet predicts v, not the noise."""
        return self.model.prediction == "v"

    @property
    def scale(self) -> float:
        """From the VAE's latents to the UNet's."""
        return self.model.architecture.scale


def open_networks(root: Path, recipe: TrainRequest, device: torch.device) -> Networks:
    """Load the recipe's checkpoint: what is trained as a whole in float32, the rest in the recipe's precision.

    Raises:
        DanqingError: `unknown_model`, `no_model`, `model_broken`, `model_unsafe`, `train_family`.
    """
    library = Library(root)
    checkpoint = library.hashed(library.resolve(recipe.model))
    half = DTYPES[recipe.precision]
    whole = recipe.method == "dreambooth"
    if whole and is_folder_model(checkpoint.filename):
        reason = "a whole checkpoint is made from a single file only; convert the folder first, or train a LoRA"
        raise DanqingError("train_family", name=checkpoint.name, reason=reason)
    model = load(checkpoint, device, torch.float32 if whole else half, library.sha256_of)
    check_family(model)
    if whole:
        frozen = [model.vae] if recipe.train_text_encoder else [model.vae, model.text]
        for module in frozen if half != torch.float32 else ():
            module.to(half)
    return Networks(model, device, linear_alphas(*model.architecture.betas).float())


def check_family(model: Model) -> None:
    """
    Raises:
        DanqingError: `train_family`, for what is neither SD 1.x nor 2.x or draws from more than text.
    """
    if model.family not in ("sd1", "sd2"):
        reason = f"it is of the family {model.family}; checkpoints of SD 1.x and 2.x can be"
        raise DanqingError("train_family", name=model.checkpoint.name, reason=reason)
    if model.in_channels != 4:
        reason = "it draws from more than a text (inpainting, depth or instruct-pix2pix)"
        raise DanqingError("train_family", name=model.checkpoint.name, reason=reason)


def checkpointed(module: Any) -> None:
    """Have a diffusers or transformers network compute its activations twice instead of keeping them."""
    enable = getattr(module, "enable_gradient_checkpointing", None) or module.gradient_checkpointing_enable
    enable()
    module.train()
    for inner in module.modules():
        if isinstance(inner, nn.Dropout):
            inner.p = 0.0
