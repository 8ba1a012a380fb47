"""tile_colorfix: while it is drawn, a picture keeps the broad colours of another, and its own detail.

The colour correction that StableSR makes after sampling (Wang et al. 2023, https://arxiv.org/abs/2305.07015, section 3.3: detail
of one picture, low frequencies of the other), here of the clean latent x0 that the network's answer stands for, at every call:

    x0' = x0 + w (low(z) - low(x0))              z: the reference's latent; w: the unit's weight, 0 to 1
    x0'' = x0' + w a (x0' - fine(x0'))           "+sharp" only: an unsharp mask; a = SHARPEN * "Sharpness"

low is a Gaussian blur of deviation "Variation" / 2 latent pixels: patches up to "Variation" wide may vary. fine is one of
deviation 1. Both prompts' answers are treated alike, so that guidance goes on to act on detail, and on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from danqing.engine.schedules import ModelSigmas

SHARPEN = 0.1
"""Amount of the unsharp mask at "Sharpness" 1. It acts at every call, so little does much."""

FINE = 1.0
"""Deviation in latent pixels of the blur beside which a detail is sharpened."""

REACH = 3.0
"""Deviations at which a Gaussian ends."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a network's answer was about. x: (4, h, w), scaled for the network. t: a fractional timestep.

    prediction: "epsilon" or "v".
    """

    x: torch.Tensor
    t: float
    sigmas: ModelSigmas
    prediction: str

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
    """One unit's. latent: (4, h, w) of its picture. variation: latent pixels. sharpness: 0 for none. weight: 0..1."""

    latent: torch.Tensor
    variation: float
    sharpness: float
    weight: float

    def applied(self, said: torch.Tensor, moment: Said) -> torch.Tensor:
        """The answer with the picture's broad colours."""
        clean = moment.clean(said)
        # A blur is linear: one of the difference is the difference of two.
        clean = clean + self.weight * blurred(self.latent - clean, self.variation / 2)
        if self.sharpness:
            clean = clean + self.weight * SHARPEN * self.sharpness * (clean - blurred(clean, FINE))
        return moment.answer(clean)


def blurred(latent: torch.Tensor, deviation: float) -> torch.Tensor:
    """A Gaussian blur of (C, h, w), deviation in pixels; beyond the edge its pixels go on."""
    reach = math.ceil(REACH * deviation)
    places = torch.arange(-reach, reach + 1, device=latent.device, dtype=latent.dtype)
    taps = torch.exp(-places.square() / (2 * deviation**2))
    taps = taps / taps.sum()
    padded = torch.nn.functional.pad(latent[:, None], (reach,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, taps.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(rows, taps.view(1, 1, -1, 1))[:, 0]
