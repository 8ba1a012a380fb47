"""A look at a picture before it is finished: one matrix product from latent to RGB, at latent size."""

from __future__ import annotations

import io

import torch


def png(latent: torch.Tensor, latent_rgb: tuple[torch.Tensor, torch.Tensor]) -> bytes:
    """A small PNG of a scaled latent (4, h, w), h by w pixels; whoever shows it scales it up."""
    from PIL import Image

    matrix, offsets = latent_rgb
    rgb = torch.einsum("chw,cr->hwr", latent.float().cpu(), matrix) + offsets
    pixels = ((rgb / 2 + 0.5).nan_to_num(0.5).clamp(0, 1) * 255).to(torch.uint8).numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
