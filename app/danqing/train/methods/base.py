"""What all methods have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danqing.train.networks import Networks, checkpointed
from danqing.train.recipe import TrainRequest
from danqing.train.text import Encoding


@dataclass(frozen=True, slots=True)
class Facts:
    """What a result says of its making."""

    steps: int
    pictures: int
    class_pictures: int
    resolution: int
    data_sha256: str
    tags: Mapping[str, int]
    """Tag → how many captions say it."""
    seconds: float = 0.0


class Method(ABC):
    """One method at work on one checkpoint's networks.

    `trained`: every number that changes, float32, by a name that stays the same from run to run.
    """

    def __init__(self, recipe: TrainRequest, networks: Networks) -> None:
        self.recipe, self.networks = recipe, networks
        self.trained: dict[str, nn.Parameter] = {}
        self.unet = networks.unet
        self.encode = Encoding(networks.encoder)
        self._plain = Encoding(networks.encoder)
        self.attach()
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        if recipe.gradient_checkpointing:
            checkpointed(networks.unet)
            if recipe.train_text_encoder:
                checkpointed(networks.text)

    @abstractmethod
    def attach(self) -> None:
        """Put what is trained into the networks and fill `trained`; set `encode` where captions read differently."""

    @abstractmethod
    def save(self, path: Path, facts: Facts) -> None:
        """Write the result to `path`, a new file.

        Raises:
            DanqingError: `disk_full`, `cannot_write`.
            OSError: likewise.
        """

    @property
    @abstractmethod
    def kind(self) -> str:
        """Of the file: "lora", "embedding", "hypernetwork" or "checkpoint"."""

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups: parameters and their learning rate."""
        return [{"params": list(self.trained.values()), "lr": self.recipe.learning_rate}]

    def train(self, on: bool) -> None:  # noqa: B027 - most methods are the same in training and use
        """Switch what differs between training and use, such as dropout."""

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """The UNet's output for noisy latents (B, 4, h, w) at timesteps (B,) with a context (B, 77, width)."""
        out: torch.Tensor = self.unet(latents, timesteps, encoder_hidden_states=context, return_dict=False)[0]
        return out

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within it the networks are as they were before the training, what their outputs say too."""
        yield

    @torch.no_grad()
    def before(self, latents: torch.Tensor, timesteps: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """What the untouched model says of noisy latents (B, 4, h, w) at timesteps (B,) with captions (B)."""
        with self.untouched():
            context = self._plain(texts)
            return self.predict(latents.to(context.dtype), timesteps, context)
