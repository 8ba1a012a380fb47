"""One forward pass of a UNet over rows of different pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from danqing.engine.calls import Row
from danqing.engine.control_rows import Aid, Step
from danqing.engine.device import placed
from danqing.engine.models import Model, added_conditioning


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of different pictures as one batch, on the device and in the UNet's format (t: float32), and what their control units
    add to it."""

    step: Step
    aid: Aid

    @property
    def added(self) -> list[torch.Tensor]:
        """SDXL's pooled text and numbers, or nothing."""
        return [] if self.step.added is None else [self.step.added["text_embeds"], self.step.added["time_ids"]]

    @property
    def residuals(self) -> list[torch.Tensor] | None:
        """What ControlNets add to the skip connections, the middle's last; [] without control units, None where these do more."""
        if self.aid.features or self.aid.images or self.aid.references:
            return None
        return [] if self.aid.middle is None else [*self.aid.down, self.aid.middle]


def batch_of(model: Model, rows: Sequence[Row], device: torch.device) -> Batch:
    """One batch of rows that have one size, one length of conditioning and the same control networks, which run here."""
    dtype = model.unet.dtype
    x = torch.stack([row.x for row in rows]).to(device, dtype)
    t = placed(torch.tensor([row.t for row in rows], dtype=torch.float32), device)
    context = torch.stack([row.context for row in rows]).to(device, dtype)
    step, aid = Step(model, x, t, context, _added(model, rows, device, dtype)), Aid()
    for unit in range(len(rows[0].control)):
        hints = [row.control[unit] for row in rows]
        hints[0].join(hints, step, aid)
    return Batch(step, aid)


def eager(batch: Batch) -> torch.Tensor:
    """What the network says of each row, (rows, 4, h, w) in its own format, as its own Python runs it."""
    step = batch.step
    with batch.aid.around(step):
        out: torch.Tensor = step.model.unet(
            step.x,
            step.t,
            encoder_hidden_states=step.context,
            added_cond_kwargs=step.added,
            return_dict=False,
            **batch.aid.arguments(),
        )[0]
    return out


def _added(model: Model, rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> dict[str, Any] | None:
    """SDXL's added conditioning: the pooled text, then the numbers that are embedded as timesteps are."""
    if rows[0].vector is None:
        return None
    vectors = torch.stack([row.vector for row in rows if row.vector is not None])
    return added_conditioning(model, vectors.to(device, dtype))
