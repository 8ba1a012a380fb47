"""ControlNets: loaded for a model, run beside its UNet, and what a request's units ask of them.

Zhang, Rao and Agrawala 2023 (https://arxiv.org/abs/2302.05543): a copy of the UNet's first half sees a picture (the hint) and
adds its outputs to the skip connections and the middle.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from danqing.engine.building import fill_parts
from danqing.errors import DanqingError
from danqing.library.controls import Control, control_routes
from danqing.library.index import stamp_of
from danqing.library.weights import open_weights
from danqing.request import ControlUnit

if TYPE_CHECKING:
    from danqing.engine.models import Model

SOFT = 0.825
"""Soft weights: an output counts this factor less for every one behind it (spec 5.1)."""

SHARED = (
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "norm_num_groups",
    "transformer_layers_per_block",
    "use_linear_projection",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)
"""Of the UNet's shape, what its ControlNets have too."""

KEPT = 4
"""ControlNets kept in memory."""


@dataclass(slots=True, eq=False)
class ControlNet:
    """A ControlNet on a device."""

    key: str
    module: Any
    channels: int
    """Channels of the latent that it sees; a model with more shows it these first ones."""

    @property
    def outputs(self) -> int:
        """Outputs to skip connections, and the one to the middle."""
        return len(self.module.controlnet_down_blocks) + 1

    def run(
        self,
        hints: Sequence[Hint],
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor,
        added: dict[str, Any] | None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Residuals for the skip connections and the middle, each row's by its own weights.

        x: (rows, C, h, w). t: (rows,). context: (rows, tokens, dim).
        """
        device, dtype = x.device, self.module.dtype
        seen = torch.cat([hint.seen(self, device, dtype) for hint in hints])
        down, middle = self.module(
            x[:, : self.channels].to(dtype),
            t,
            encoder_hidden_states=context.to(dtype),
            controlnet_cond=seen,
            added_cond_kwargs=added,
            return_dict=False,
        )
        weights = torch.tensor([hint.weights for hint in hints], device=device, dtype=x.dtype)[:, :, None, None, None]
        found = [out.to(x.dtype) * weights[:, i] for i, out in enumerate(down)]
        return found, middle.to(x.dtype) * weights[:, -1]


@dataclass(slots=True, eq=False)
class Hint:
    """What one unit shows one row. `pixels`: (3, H, W) float32. `weights`: one for each of the network's outputs."""

    net: ControlNet
    pixels: torch.Tensor
    weights: tuple[float, ...]
    _seen: list[torch.Tensor] = field(default_factory=list)
    """The hint encoder's output, computed once; shared by the hints of one unit."""

    @property
    def key(self) -> str:
        """Rows of one forward run the same networks."""
        return self.net.key

    def seen(self, net: ControlNet, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """(1, C, h, w) of the hint encoder."""
        if not self._seen:
            self._seen.append(net.module.hint_encoder(self.pixels[None].to(device, dtype)))
        return self._seen[0]

    def weighted(self, weights: tuple[float, ...]) -> Hint:
        """The same picture with other weights."""
        return Hint(self.net, self.pixels, weights, self._seen)


def load_control(control: Control, model: Model) -> ControlNet:
    """Read a ControlNet for a model, whose UNet's shape says what the file cannot (the number of heads).

    Raises:
        DanqingError: `control_misfit`, `control_broken`, and those of reading a file.
    """
    weights = open_weights(control.path)
    shape = model.architecture.unet
    routes = control_routes(weights, shape.layers)
    names = {row.route.name: weights.shapes[name] for name, rows in routes.items() for row in rows}
    if "controlnet_mid_block.weight" not in names:
        raise DanqingError("control_broken", name=control.name, reason="the file holds no ControlNet")
    module = _meta(model, names)
    _check_fit(control, model, names, module)
    dtype = model.unet.dtype
    try:
        fill_parts({"control": module}, weights, routes, model.unet.device, dtype)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise DanqingError("control_broken", name=control.name, reason=reason) from error
    # The encoder runs once for a picture, not at every step: the network itself is given what it made.
    module.hint_encoder = module.controlnet_cond_embedding
    module.controlnet_cond_embedding = torch.nn.Identity()
    return ControlNet(key_of(control, model), module, names["conv_in.weight"][1])


def key_of(control: Control, model: Model) -> str:
    """A file in one state, for models of one shape."""
    return f"{control.path}:{stamp_of(control.path)}:{model.architecture.unet}"


def _meta(model: Model, names: dict[str, tuple[int, ...]]) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    config = dict(model.unet.config)
    hint = tuple(
        names[f"controlnet_cond_embedding.blocks.{i}.weight"][0]
        for i in range(1, 20, 2)
        if f"controlnet_cond_embedding.blocks.{i}.weight" in names
    )
    first = names["controlnet_cond_embedding.conv_in.weight"]
    with torch.device("meta"):
        return ControlNetModel(
            in_channels=names["conv_in.weight"][1],
            conditioning_channels=first[1],
            conditioning_embedding_out_channels=(first[0], *hint),
            **{key: config[key] for key in SHARED if config.get(key) is not None},
        )


def _check_fit(control: Control, model: Model, names: dict[str, tuple[int, ...]], module: Any) -> None:
    for name, row in module.named_parameters():
        if name in names and tuple(row.shape) != tuple(names[name]):
            reason = f"{name}: {tuple(names[name])}, {tuple(row.shape)}"
            raise DanqingError("control_misfit", name=control.name, model=model.checkpoint.name, reason=reason)


class ControlStore:
    """ControlNets in memory, the least recently used leaves first. Called by threads that load."""

    def __init__(self, most: int = KEPT) -> None:
        self._most, self._lock = most, threading.Lock()
        self._nets: OrderedDict[str, ControlNet] = OrderedDict()

    def get(self, control: Control, model: Model) -> ControlNet:
        """
        Raises:
            DanqingError: as `load_control`.
        """
        key = key_of(control, model)
        with self._lock:
            if key not in self._nets:
                self._nets[key] = load_control(control, model)
            self._nets.move_to_end(key)
            while len(self._nets) > self._most:
                self._nets.popitem(last=False)
            return self._nets[key]

    def forget(self) -> None:
        """Let go of every network that no picture holds."""
        with self._lock:
            self._nets.clear()


def layer_weights(unit: ControlUnit, outputs: int) -> tuple[float, ...]:
    """A weight for each output: all alike, or soft, the first least (spec 5.1).

    w_i = weight, or weight * 0.825^(n - 1 - i) where a side is more important, for i = 0..n-1; advanced weights are taken
    as they are.
    """
    if unit.advanced_weighting is not None:
        given = unit.advanced_weighting
        return tuple(unit.weight * given[min(i, len(given) - 1)] for i in range(outputs)) if given else (0.0,) * outputs
    if unit.control_mode == "Balanced":
        return (unit.weight,) * outputs
    return tuple(unit.weight * SOFT ** (outputs - 1 - i) for i in range(outputs))


@dataclass(slots=True)
class Units:
    """The units of one pass: `Guide` asks which hints a row gets at a call."""

    rows: list[tuple[ControlUnit, Hint]]

    def at(self, call: int, total: int, *, unconditional: bool) -> tuple[Hint, ...]:
        """Hints of the units that are active; the negative prompt's rows feel nothing where control is more important."""
        share = call / max(total, 1)
        found = []
        for unit, hint in self.rows:
            if not unit.guidance_start <= share <= unit.guidance_end:
                continue
            silent = unconditional and unit.control_mode == "ControlNet is more important"
            found.append(hint.weighted((0.0,) * len(hint.weights)) if silent else hint)
        return tuple(found)
