"""What the control units of a group of rows add to one forward of a UNet, gathered from all of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from danqing.engine.device import placed

if TYPE_CHECKING:
    from danqing.engine.image_prompts import ImagePrompts
    from danqing.engine.models import Model
    from danqing.engine.reference import References


@dataclass(frozen=True, slots=True)
class Step:
    """One forward as control units see it.

    x: (rows, C, h, w). t: (rows,). context: (rows, tokens, dim). added: SDXL's added conditioning.
    """

    model: Model
    x: torch.Tensor
    t: torch.Tensor
    context: torch.Tensor
    added: dict[str, Any] | None


class Hint(Protocol):
    """What one unit shows one row. `weights`: one for each of the network's outputs."""

    @property
    def weights(self) -> tuple[float, ...]: ...

    @property
    def key(self) -> Hashable:
        """Rows whose hints have the same keys run in one forward."""
        ...

    def weighted(self, weights: tuple[float, ...]) -> Hint:
        """The same with other weights."""
        ...

    def join(self, hints: Sequence[Any], step: Step, aid: Aid) -> None:
        """Add what `hints`, one for each row and all with this hint's key, do to the forward."""
        ...


@runtime_checkable
class Sided(Protocol):
    """A hint that is another for the negative prompt, or at another denoiser call."""

    def sided(self, call: int, *, unconditional: bool) -> Hint:
        """The hint of this call and side."""
        ...


@dataclass(slots=True)
class Aid:
    """The sum of all units: residuals of ControlNets, features of T2I-Adapters, image prompts, references."""

    down: list[torch.Tensor] = field(default_factory=list)
    middle: torch.Tensor | None = None
    features: list[torch.Tensor] = field(default_factory=list)
    images: list[ImagePrompts] = field(default_factory=list)
    references: list[References] = field(default_factory=list)

    def add_residuals(self, down: Sequence[torch.Tensor], middle: torch.Tensor) -> None:
        """To the skip connections, each (rows, C, h, w), and to the middle."""
        self.down = [a + b for a, b in zip(self.down, down, strict=True)] if self.down else list(down)
        self.middle = middle if self.middle is None else self.middle + middle

    def add_features(self, features: Sequence[torch.Tensor]) -> None:
        """To the levels of the UNet's first half, each (rows, C, h, w)."""
        self.features = (
            [a + b for a, b in zip(self.features, features, strict=True)] if self.features else list(features)
        )

    def arguments(self) -> dict[str, Any]:
        """What diffusers' UNet is called with."""
        found: dict[str, Any] = {}
        if self.middle is not None:
            found |= {
                "down_block_additional_residuals": tuple(self.down),
                "mid_block_additional_residual": self.middle,
            }
        if self.features:
            # The UNet takes them off this list one by one.
            found["down_intrablock_additional_residuals"] = list(self.features)
        return found

    @contextmanager
    def around(self, step: Step) -> Iterator[None]:
        """Within the context the UNet attends to the image prompts and to the references."""
        with ExitStack() as stack:
            if self.references:
                from danqing.engine.reference import referring

                stack.enter_context(referring(step, self.references))
            if self.images:
                from danqing.engine.image_prompts import attending

                stack.enter_context(attending(step.model.unet, self.images))
            yield


def weights_of(hints: Sequence[Any], like: torch.Tensor) -> torch.Tensor:
    """(rows, outputs) of the hints, on the device and in the format of `like`."""
    return placed(torch.tensor([hint.weights for hint in hints], dtype=like.dtype), like.device)
