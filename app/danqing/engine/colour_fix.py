"""tile_colorfix: while it is drawn, a picture keeps the broad colours of another.

With x0 the network's estimate of the clean latent and mean the box mean of 2k + 1 latent pixels a side ("Variation" is k):
x0' = x0 - mean(x0) + mean(reference). "+sharp" blurs the negative prompt's estimate, which guidance then moves away from:
x0'' = s mean(x0') + (1 - s) x0', s = "Sharpness" / 100. What is said of x0 changes by the unit's weight, at most by 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from danqing.engine.schedules import ModelSigmas


@dataclass(frozen=True, slots=True)
class Said:
    """What a network's answer was about. x: (4, h, w), scaled for the network. t: a fractional timestep.

    prediction: "epsilon" or "v". unconditional: of the negative prompt.
    """

    x: torch.Tensor
    t: float
    sigmas: ModelSigmas
    prediction: str
    unconditional: bool

    @property
    def _roots(self) -> tuple[float, float]:
        """Square roots of abar and of 1 - abar."""
        sigma = float(self.sigmas.to_sigma(torch.tensor([self.t])))
        return 1 / (sigma**2 + 1) ** 0.5, sigma / (sigma**2 + 1) ** 0.5

    def clean(self, said: torch.Tensor) -> torch.Tensor:
        """The clean latent that the answer stands for."""
        root, rest = self._roots
        return root * self.x - rest * said if self.prediction == "v" else (self.x - rest * said) / root

    def answer(self, clean: torch.Tensor) -> torch.Tensor:
        """The answer that would have stood for `clean`."""
        root, rest = self._roots
        return (root * self.x - clean) / rest if self.prediction == "v" else (self.x - root * clean) / rest


@dataclass(frozen=True, slots=True)
class ColourFix:
    """One unit's. latent: (4, h, w) of its picture. radius: k. sharpness: 0 for none. weight: 0..1."""

    latent: torch.Tensor
    radius: int
    sharpness: float
    weight: float

    def applied(self, said: torch.Tensor, moment: Said) -> torch.Tensor:
        """The answer with the picture's broad colours."""
        clean = moment.clean(said)
        clean = clean - box_mean(clean, self.radius) + box_mean(self.latent, self.radius)
        if moment.unconditional and self.sharpness:
            share = self.sharpness / 100
            clean = share * box_mean(clean, self.radius) + (1 - share) * clean
        return self.weight * moment.answer(clean) + (1 - self.weight) * said


def box_mean(latent: torch.Tensor, radius: int) -> torch.Tensor:
    """The mean of 2 * radius + 1 pixels a side around each, (C, h, w); beyond the edge its pixels go on."""
    padded = torch.nn.functional.pad(latent[None], (radius,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 2 * radius + 1, stride=1)[0]
