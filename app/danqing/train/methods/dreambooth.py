"""DreamBooth (Ruiz et al. 2022, https://arxiv.org/abs/2208.12242): the whole UNet, and the text encoder where it is wanted.

The result is a checkpoint in the layout, with the tensors, of the one it was made from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from danqing.library.header import Entry
from danqing.library.keys import EMA, ema_name
from danqing.library.routes import Destination, routes_of
from danqing.library.tensors import FLOATS, Row, TensorReader, write_safetensors
from danqing.library.weights import open_weights
from danqing.train.methods.base import Facts, Method
from danqing.train.networks import DTYPES
from danqing.train.text import Encoding


class DreamBooth(Method):
    """Every number of the UNet changes."""

    kind = "checkpoint"

    def attach(self) -> None:
        self._parts: dict[str, Any] = {"unet": self.networks.unet}
        if self.recipe.train_text_encoder:
            self._parts["text0"] = self.networks.text
            self.encode = Encoding(self.networks.encoder, frozen=False)
        self._copies: dict[str, Any] = {}
        if self.recipe.prior_target == "model" and self.recipe.class_pictures:
            half = DTYPES[self.recipe.precision]
            self._copies = {part: copy.deepcopy(m).requires_grad_(False) for part, m in self._parts.items()}
            for module in self._copies.values() if half != torch.float32 else ():
                module.to(half)
            if "text0" in self._copies:
                self._plain = Encoding(replace(self.networks.encoder, module=self._copies["text0"]))
        for part, module in self._parts.items():
            self.trained.update({f"{part}.{name}": parameter for name, parameter in module.named_parameters()})

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """The copies' turn. There are none where nothing asks for them: a UNet is gigabytes."""
        self.unet, trained = self._copies["unet"], self.unet
        try:
            yield
        finally:
            self.unet = trained

    def groups(self) -> list[dict[str, Any]]:
        rates = {"unet": self.recipe.learning_rate, "text0": self.recipe.text_rate}
        return [
            {"params": [p for name, p in self.trained.items() if name.startswith(part + ".")], "lr": rates[part]}
            for part in self._parts
        ]

    def save(self, path: Path, facts: Facts) -> None:
        checkpoint = self.networks.model.checkpoint
        weights = open_weights(checkpoint.filename)
        metadata = weights.metadata | {
            "modelspec.title": self.recipe.name,
            "danqing.recipe": self.recipe.told(),
            "danqing.data_sha256": facts.data_sha256,
            "danqing.base": f"{checkpoint.name} {self.networks.model.sha256}",
        }
        with TensorReader(weights) as reader:
            write_safetensors(path, list(self._rows(reader)), metadata)

    def _rows(self, reader: TensorReader) -> Iterator[Row]:
        """Every tensor of the base but running means, which are of no use beside weights that have changed."""
        model = self.networks.model
        routes = routes_of(open_weights(model.checkpoint.filename), model.architecture)
        for name, entry in reader.entries.items():
            if name.startswith(EMA):
                continue
            destinations = routes.get(name) or routes.get(ema_name(name)) or ()
            if destinations and destinations[0].part in self._parts:
                yield Row(name, _dtype(entry), entry.shape, partial(self._trained, destinations, entry))
            else:
                yield Row(name, entry.dtype, entry.shape, partial(reader.get, name))

    def _trained(self, destinations: tuple[Destination, ...], entry: Entry) -> torch.Tensor:
        """What the base has as one tensor: one parameter, or three that OpenCLIP keeps as one."""
        ordered = sorted(destinations, key=lambda row: row.route.third or 0)
        pieces = [self.trained[f"{row.part}.{row.route.name}"].detach().cpu() for row in ordered]
        whole = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        return (whole.T if ordered[0].route.transposed else whole).reshape(entry.shape)


def _dtype(entry: Entry) -> str:
    """As the base has it."""
    return entry.dtype if entry.dtype in FLOATS else "F32"
