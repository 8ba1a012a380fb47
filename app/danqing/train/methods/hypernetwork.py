"""Hypernetworks as the WebUI has them: before keys and values of every attention layer x + network(x), by the input's width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danqing.adapters.hypernetwork import ACTIVATIONS
from danqing.engine.patches import attentions
from danqing.errors import DanqingError
from danqing.train.files import save_torch
from danqing.train.methods.base import Facts, Method
from danqing.train.recipe import TrainRequest

INITIALIZATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Normal": lambda weight: nn.init.normal_(weight, mean=0.0, std=0.01),
    "KaimingUniform": nn.init.kaiming_uniform_,
    "KaimingNormal": nn.init.kaiming_normal_,
    "XavierUniform": nn.init.xavier_uniform_,
    "XavierNormal": nn.init.xavier_normal_,
}


def network(width: int, recipe: TrainRequest) -> nn.Sequential:
    """One small network, (…, width) to (…, width), its layers in the WebUI's order: linear, activation, norm, dropout.

    Raises:
        DanqingError: `invalid_field`, for an activation that does not exist.
    """
    activation = ACTIVATIONS.get(recipe.hypernetwork_activation.lower())
    if activation is None:
        reason = f"there are {', '.join(ACTIVATIONS)}"
        raise DanqingError("invalid_field", field="hypernetwork_activation", reason=reason)
    widths = [round(width * multiple) for multiple in recipe.hypernetwork_layers]
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers.append(nn.Linear(inputs, outputs))
        INITIALIZATIONS[recipe.hypernetwork_initialization](layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(layers[-1].bias)  # type: ignore[arg-type]
        if recipe.hypernetwork_activation.lower() != "linear" and (not last or recipe.hypernetwork_activate_output):
            layers.append(activation())
        if recipe.hypernetwork_layer_norm:
            layers.append(nn.LayerNorm(outputs))
        if recipe.hypernetwork_dropout and not last:
            layers.append(nn.Dropout(recipe.hypernetwork_dropout))
    return nn.Sequential(*layers)


class Hypernetwork(Method):
    """Two networks for every width that attention reads in this UNet."""

    kind = "hypernetwork"
    _off = False

    def attach(self) -> None:
        places = list(attentions(self.networks.unet))
        widths = sorted({keys.in_features for keys, _ in places})
        chosen = [width for width in widths if width in (self.recipe.hypernetwork_sizes or widths)]
        if not chosen:
            reason = f"this model's widths are {', '.join(map(str, widths))}"
            raise DanqingError("invalid_field", field="hypernetwork_sizes", reason=reason)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            made = {width: (network(width, self.recipe), network(width, self.recipe)) for width in chosen}
        self._pairs = {width: [n.to(self.networks.device) for n in pair] for width, pair in made.items()}
        for keys, values in places:
            for layer, small in zip((keys, values), self._pairs.get(keys.in_features, ()), strict=False):
                layer.register_forward_pre_hook(self._joined(small))
        for width, pair in self._pairs.items():
            for side, small in zip("kv", pair, strict=True):
                self.trained.update({f"{width}.{side}.{name}": p for name, p in small.named_parameters()})

    @contextmanager
    def untouched(self) -> Iterator[None]:
        self._off = True
        try:
            yield
        finally:
            self._off = False

    def _joined(self, small: nn.Module) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor] | None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor] | None:
            return None if self._off else (inputs[0] + small(inputs[0]).to(inputs[0].dtype),)

        return hook

    def train(self, on: bool) -> None:
        for pair in self._pairs.values():
            for small in pair:
                small.train(on)

    def save(self, path: Path, facts: Facts) -> None:
        recipe, model = self.recipe, self.networks.model
        table: dict[Any, Any] = {width: tuple(map(_state, pair)) for width, pair in self._pairs.items()}
        table |= {
            "step": facts.steps,
            "name": recipe.name,
            "layer_structure": [int(m) if m == int(m) else m for m in recipe.hypernetwork_layers],
            "activation_func": recipe.hypernetwork_activation.lower(),
            "is_layer_norm": recipe.hypernetwork_layer_norm,
            "weight_initialization": recipe.hypernetwork_initialization,
            "use_dropout": bool(recipe.hypernetwork_dropout),
            "sd_checkpoint": model.hash10,
            "sd_checkpoint_name": model.checkpoint.base,
            "activate_output": recipe.hypernetwork_activate_output,
            "last_layer_dropout": False,
            "danqing_recipe": recipe.told(),
            "danqing_data_sha256": facts.data_sha256,
        }
        save_torch(path, table)


def _state(small: nn.Module) -> dict[str, torch.Tensor]:
    return {f"linear.{name}": tensor.detach().cpu().clone() for name, tensor in small.state_dict().items()}
