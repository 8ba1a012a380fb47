"""What a plan may ask of the engine. Frozen; tensors travel in them but nothing here computes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from danqing.engine.protocol import ImageFacts
    from danqing.library.index import Checkpoint
    from danqing.prompt.chunks import Chunk


@dataclass(frozen=True, slots=True)
class Load:
    """Have this checkpoint in memory. Answer: `models.Model`; it stays while the plan lives."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Encode:
    """Run the text encoder. Answer: conditioning, (77 * chunks, dim).

    The chunks of one `Encode` are one prompt: emphasis restores the mean over each of its chunks.
    """

    model: Any
    chunks: tuple[Chunk, ...]
    clip_skip: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a UNet forward: x (C, h, w) already scaled, t a fractional timestep, context (77 * chunks, dim)."""

    x: torch.Tensor
    t: float
    context: torch.Tensor


@dataclass(frozen=True, slots=True)
class Denoise:
    """Run the UNet on rows, each for itself. Answer: a list of (C, h, w), in order."""

    model: Any
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Run the VAE's decoder on a scaled latent (4, h, w). Answer: uint8 pixels (8h, 8w, 3), truncated not rounded."""

    model: Any
    latent: torch.Tensor


@dataclass(frozen=True, slots=True)
class Finished:
    """A picture is done. Answer: None, at once."""

    pixels: np.ndarray[Any, Any]
    facts: ImageFacts


Call = Load | Encode | Denoise | Decode | Finished
Plan = Generator[Call, Any, None]


@dataclass(slots=True)
class Track:
    """How far a plan is, written by the plan and read by the engine between steps.

    `interrupted` goes the other way: the engine sets it, the plan stops sampling at its next step and decodes what it has.
    """

    steps: int
    step: int = 0
    denoised: torch.Tensor | None = None
    """The latest estimate of the clean latent, (4, h, w), scaled: what a preview shows."""
    model: Any = None
    interrupted: bool = False
