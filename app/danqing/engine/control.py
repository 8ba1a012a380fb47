"""ControlNets beside a UNet, and what a request's units ask of them.

Zhang, Rao and Agrawala 2023 (https://arxiv.org/abs/2302.05543): a copy of the UNet's first half sees a picture (the hint) and
adds its outputs to the skip connections and the middle.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from danqing.engine.colour_fix import ColourFix, Said
from danqing.engine.control_rows import Aid, Hint, Sided, Step, weights_of
from danqing.request import ControlUnit

SOFT = 0.825
"""Soft weights: an output counts this factor less for every one behind it (spec 5.1)."""


@dataclass(slots=True, eq=False)
class ControlNet:
    """A ControlNet on a device."""

    key: str
    module: Any
    channels: int
    """Channels of the latent that it sees; a model with more shows it these first ones."""
    pooled: bool = False
    """Its outputs are averaged over the picture."""

    @property
    def outputs(self) -> int:
        """Outputs to skip connections, and the one to the middle."""
        return len(self.module.controlnet_down_blocks) + 1

    def run(self, hints: Sequence[NetHint], step: Step) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Residuals for the skip connections and the middle, each row's by its own weights."""
        x, dtype = step.x, self.module.dtype
        seen = torch.cat([hint.seen(x.device, dtype) for hint in hints])
        down, middle = self.module(
            x[:, : self.channels].to(dtype),
            step.t,
            encoder_hidden_states=step.context.to(dtype),
            added_cond_kwargs=step.added,
            return_dict=False,
            **self.shown(seen, hints),
        )
        if self.pooled:
            down, middle = [_flattened(out) for out in down], _flattened(middle)
        weights = weights_of(hints, x)[:, :, None, None, None]
        found = [out.to(x.dtype) * weights[:, i] for i, out in enumerate(down)]
        return found, middle.to(x.dtype) * weights[:, -1]

    def shown(self, seen: torch.Tensor, hints: Sequence[NetHint]) -> dict[str, Any]:
        """The network's arguments that are about pictures. seen: (rows, C, h, w) of the hint encoder."""
        return {"controlnet_cond": seen}


def _flattened(out: torch.Tensor) -> torch.Tensor:
    return out.mean(dim=(2, 3), keepdim=True).expand_as(out)


@dataclass(slots=True, eq=False)
class UnionNet(ControlNet):
    """A ControlNet for several kinds of maps, which is told the kind. `tasks`: how many it knows."""

    tasks: int = 0

    def shown(self, seen: torch.Tensor, hints: Sequence[NetHint]) -> dict[str, Any]:
        """The picture, and its kind as a number and as a row of zeros and a one."""
        kinds = seen.new_zeros(len(hints), self.tasks)
        kinds[:, hints[0].task] = 1
        return {"controlnet_cond": [seen], "control_type": kinds, "control_type_idx": [hints[0].task]}


@dataclass(slots=True, eq=False)
class NetHint:
    """What one unit shows one row. `pixels`: (3, H, W) float32. `weights`: one for each of the network's outputs."""

    net: ControlNet
    pixels: torch.Tensor
    weights: tuple[float, ...]
    _seen: list[torch.Tensor] = field(default_factory=list)
    """The hint encoder's output, computed once; shared by the hints of one unit."""
    task: int = 0
    """The kind of map, for a network of several."""

    @property
    def key(self) -> Hashable:
        return self.net.key, self.task

    def seen(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """(1, C, h, w) of the hint encoder."""
        if not self._seen:
            self._seen.append(self.net.module.hint_encoder(self.pixels[None].to(device, dtype)))
        return self._seen[0]

    def weighted(self, weights: tuple[float, ...]) -> NetHint:
        """The same picture with other weights."""
        return NetHint(self.net, self.pixels, weights, self._seen, self.task)

    def join(self, hints: Sequence[Any], step: Step, aid: Aid) -> None:
        """Add the network's residuals."""
        aid.add_residuals(*self.net.run(hints, step))


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
    fixes: list[tuple[ControlUnit, ColourFix]] = field(default_factory=list)

    def at(self, call: int, total: int, *, unconditional: bool) -> tuple[Hint, ...]:
        """Hints of the units that are active; the negative prompt's rows feel nothing where control is more important."""
        found = []
        for unit, hint in self.rows:
            if not _active(unit, call, total):
                continue
            if isinstance(hint, Sided):
                hint = hint.sided(call, unconditional=unconditional)
            silent = unconditional and unit.control_mode == "ControlNet is more important"
            found.append(hint.weighted((0.0,) * len(hint.weights)) if silent else hint)
        return tuple(found)

    def settled(self, said: torch.Tensor, moment: Said, call: int, total: int) -> torch.Tensor:
        """What the network said, (4, h, w), with the colours that "tile_colorfix" takes from its picture."""
        for unit, fix in self.fixes:
            if _active(unit, call, total):
                said = fix.applied(said, moment)
        return said


def _active(unit: ControlUnit, call: int, total: int) -> bool:
    return unit.guidance_start <= call / max(total, 1) <= unit.guidance_end
