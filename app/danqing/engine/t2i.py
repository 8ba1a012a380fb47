"""T2I-Adapters, Mou et al. 2023 (https://arxiv.org/abs/2302.08453): features of a picture, added to a UNet's first half.

Unlike a ControlNet an adapter sees neither the latent nor the timestep: it runs once for a picture.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from danqing.engine.building import fill_parts
from danqing.engine.control_files import key_of, misfit, named_failures
from danqing.engine.control_rows import Aid, Step, weights_of
from danqing.library.control_kinds import adapter_names, adapter_shape
from danqing.library.controls import Control
from danqing.library.keys import Route
from danqing.library.routes import Destination, Routes
from danqing.library.weights import Weights

if TYPE_CHECKING:
    from danqing.engine.models import Model


@dataclass(slots=True, eq=False)
class Adapter:
    """A T2I-Adapter on a device. `outputs`: its features, one a level."""

    key: str
    module: Any
    in_channels: int
    factor: int
    outputs: int

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Of pixels (1, 3, H, W) in 0..1, each (1, C, h, w); a picture whose sides the adapter cannot halve is continued."""
        if self.in_channels == 1:
            pixels = pixels.mean(dim=1, keepdim=True)
        height, width = pixels.shape[-2:]
        beyond = (0, -width % self.factor, 0, -height % self.factor)
        whole = torch.nn.functional.pad(pixels, beyond, mode="replicate") if any(beyond) else pixels
        found: list[torch.Tensor] = self.module(whole)
        return found


@dataclass(slots=True, eq=False)
class FeatureHint:
    """What one unit shows one row. `pixels`: (3, H, W) float32. `weights`: one a level."""

    adapter: Adapter
    pixels: torch.Tensor
    weights: tuple[float, ...]
    _seen: list[list[torch.Tensor]] = field(default_factory=list)
    """The features, computed once; shared by the hints of one unit."""

    @property
    def key(self) -> Hashable:
        """Features are added: rows of different adapters share a forward."""
        return "t2i", self.adapter.outputs

    def weighted(self, weights: tuple[float, ...]) -> FeatureHint:
        """The same picture with other weights."""
        return FeatureHint(self.adapter, self.pixels, weights, self._seen)

    def seen(self, like: torch.Tensor) -> list[torch.Tensor]:
        """The features on the device and in the format of `like`."""
        if not self._seen:
            module = self.adapter.module
            features = self.adapter.features(self.pixels[None].to(module.device, module.dtype))
            self._seen.append([one.to(like.device, like.dtype) for one in features])
        return self._seen[0]

    def join(self, hints: Sequence[Any], step: Step, aid: Aid) -> None:
        """Add the features, each row's by its own weights."""
        rows = [hint.seen(step.x) for hint in hints]
        weights = weights_of(hints, step.x)[:, :, None, None, None]
        levels = zip(*rows, strict=True)
        aid.add_features([torch.cat(level) * weights[:, i] for i, level in enumerate(levels)])


def load_adapter(control: Control, model: Model, weights: Weights) -> Adapter:
    """Read a T2I-Adapter.

    Raises:
        DanqingError: `control_misfit`, `control_broken`.
    """
    from diffusers import T2IAdapter

    names = adapter_names(weights.shapes)
    with named_failures(control):
        shape = adapter_shape({ours: weights.shapes[theirs] for theirs, ours in names.items()})
    _check(control, model, shape.kind, shape.channels)
    with torch.device("meta"):
        module = T2IAdapter(shape.in_channels, list(shape.channels), shape.blocks, shape.factor, shape.kind)
    routes: Routes = {theirs: (Destination("control", Route(ours)),) for theirs, ours in names.items()}
    with named_failures(control):
        fill_parts({"control": module}, weights, routes, model.unet.device, model.unet.dtype)
    outputs = len(module.adapter.body)
    return Adapter(key_of(control, model), module, shape.in_channels, shape.factor, outputs)


def _check(control: Control, model: Model, kind: str, channels: tuple[int, ...]) -> None:
    """Whether the features fit the UNet's levels; SDXL's fourth goes to the middle."""
    widths = tuple(model.unet.config.block_out_channels)
    wanted = (*widths, widths[-1]) if kind == "full_adapter_xl" else widths
    given = (*channels, channels[-1]) if kind == "light_adapter" else channels
    if tuple(given) != wanted:
        raise misfit(control, model, f"channels of the levels: {given}, {wanted}")
