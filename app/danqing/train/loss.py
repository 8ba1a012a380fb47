"""What a UNet is to predict, and how much each timestep counts."""

from __future__ import annotations

import torch


def noise_like(latents: torch.Tensor, offset: float, generator: torch.Generator) -> torch.Tensor:
    """Gaussian noise of the shape of `latents` (B, 4, h, w), made on the CPU; each channel's mean is moved by `offset` times
    another draw (N. Guttenberg 2023, https://www.crosslabs.org/blog/diffusion-with-offset-noise)."""
    noise = torch.randn(latents.shape, generator=generator)
    if offset:
        noise += offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
    return noise.to(latents)


def noised(latents: torch.Tensor, noise: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Latents (B, 4, h, w) with noise; shares: (B,), the signal's share of the variance at each row's timestep."""
    share = shares.view(-1, 1, 1, 1)
    return share.sqrt() * latents + (1 - share).sqrt() * noise


def target_of(latents: torch.Tensor, noise: torch.Tensor, shares: torch.Tensor, is_v: bool) -> torch.Tensor:
    """The noise, or v (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512)."""
    if not is_v:
        return noise
    share = shares.view(-1, 1, 1, 1)
    return share.sqrt() * noise - (1 - share).sqrt() * latents


def weights_of(shares: torch.Tensor, gamma: float, is_v: bool) -> torch.Tensor:
    """Min-SNR weights (B,) (Hang et al. 2023, https://arxiv.org/abs/2303.09556); ones for a `gamma` of 0."""
    if not gamma:
        return torch.ones_like(shares)
    snr = shares / (1 - shares)
    return snr.clamp(max=gamma) / (snr + 1 if is_v else snr)


def mean_error(
    guess: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean square error in float32; mask: (B, 1, h, w) of 0..1, by which each place counts, of any mean."""
    error = (guess.float() - target.float()).square()
    if mask is not None:
        error = error * mask / mask.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
    return (error.mean((1, 2, 3)) * weights).mean()
