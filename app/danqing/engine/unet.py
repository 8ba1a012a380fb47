"""One forward pass of a UNet over rows of different pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from danqing.engine.calls import Row
from danqing.engine.control_rows import Aid, Step
from danqing.engine.models import Model, added_conditioning


def forward(model: Model, rows: Sequence[Row], device: torch.device) -> torch.Tensor:
    """What the network says of each row, (rows, 4, h, w) float32 on the CPU.

    All rows have one size, one length of conditioning and the same control networks.
    """
    dtype = model.unet.dtype
    x = torch.stack([row.x for row in rows]).to(device, dtype)
    t = torch.tensor([row.t for row in rows], dtype=torch.float32, device=device)
    context = torch.stack([row.context for row in rows]).to(device, dtype)
    added = _added(model, rows, device, dtype)
    step, aid = Step(model, x, t, context, added), Aid()
    for unit in range(len(rows[0].control)):
        hints = [row.control[unit] for row in rows]
        hints[0].join(hints, step, aid)
    with aid.around(step):
        out: torch.Tensor = model.unet(
            x, t, encoder_hidden_states=context, added_cond_kwargs=added, return_dict=False, **aid.arguments()
        )[0]
    return out.float().cpu()


def _added(model: Model, rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> dict[str, Any] | None:
    """SDXL's added conditioning: the pooled text, then the numbers that are embedded as timesteps are."""
    if rows[0].vector is None:
        return None
    vectors = torch.stack([row.vector for row in rows if row.vector is not None])
    return added_conditioning(model, vectors.to(device, dtype))
