"""The checkpoint that a training starts from, as networks in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danqing.engine.models import Model, TextEncoder, load
from danqing.engine.schedules import linear_alphas
from danqing.library.index import Library
from danqing.library.weights import is_folder_model
from danqing.train.recipe import Precision, TrainRequest, check_model

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
    model = load(checkpoint, device, torch.float32 if whole else half, library.sha256_of)
    check_model(recipe, checkpoint.name, model.family, model.in_channels, is_folder_model(checkpoint.filename))
    if whole:
        frozen = [model.vae] if recipe.train_text_encoder else [model.vae, model.text]
        for module in frozen if half != torch.float32 else ():
            module.to(half)
    return Networks(model, device, linear_alphas(*model.architecture.betas).float())


def checkpointed(module: Any) -> None:
    """Have a diffusers or transformers network compute its activations twice instead of keeping them."""
    enable = getattr(module, "enable_gradient_checkpointing", None) or module.gradient_checkpointing_enable
    enable()
    module.train()
    for inner in module.modules():
        if isinstance(inner, nn.Dropout):
            inner.p = 0.0
