"""One forward pass of a UNet over rows of different pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from danqing.engine.calls import Row
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
    residuals = _residuals(rows, x, t, context, added)
    out: torch.Tensor = model.unet(
        x, t, encoder_hidden_states=context, added_cond_kwargs=added, return_dict=False, **residuals
    )[0]
    return out.float().cpu()


def _added(model: Model, rows: Sequence[Row], device: torch.device, dtype: torch.dtype) -> dict[str, Any] | None:
    """SDXL's added conditioning: the pooled text, then the numbers that are embedded as timesteps are."""
    if rows[0].vector is None:
        return None
    vectors = torch.stack([row.vector for row in rows if row.vector is not None])
    return added_conditioning(model, vectors.to(device, dtype))


def _residuals(
    rows: Sequence[Row], x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, added: dict[str, Any] | None
) -> dict[str, Any]:
    """What the rows' control networks add to the UNet's skip connections and its middle, summed over the units."""
    if not rows[0].control:
        return {}
    down: list[torch.Tensor] = []
    middle: torch.Tensor | None = None
    for unit in range(len(rows[0].control)):
        hints = [row.control[unit] for row in rows]
        its_down, its_middle = hints[0].net.run(hints, x, t, context, added)
        down = its_down if not down else [a + b for a, b in zip(down, its_down, strict=True)]
        middle = its_middle if middle is None else middle + its_middle
    return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
