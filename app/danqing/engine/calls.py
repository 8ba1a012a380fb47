"""What a plan may ask of the engine. Frozen; tensors travel in them but nothing here computes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from danqing.engine.protocol import ImageFacts
    from danqing.errors import DanqingError
    from danqing.library.index import Checkpoint
    from danqing.prompt.chunks import Chunk
    from danqing.request import GenerateRequest


@dataclass(frozen=True, slots=True)
class Load:
    """Have this checkpoint in memory. Answer: `models.Model`; it stays while the plan lives.

    `vae`: a file whose VAE takes the place of the checkpoint's own.
    """

    checkpoint: Checkpoint
    vae: Path | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Run a function of the CPU outside the engine's thread, for what takes long and needs no network of the model.

    Answer: what it returns. `run` must touch nothing but its own data.
    """

    run: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A network file applied to a model: LoRA, LyCORIS or hypernetwork. Equal adapters do the same to the same model."""

    kind: str
    """"lora" or "hypernet"."""
    path: Path
    text: float
    """Strength in the text encoder."""
    unet: float
    stamp: int = 0
    """The file's modification time, ns: a file replaced on disk is another adapter."""
    rank: int = 0
    """Of a LoRA, the first so many ranks only; 0 for all."""


Adapters = tuple[Adapter, ...]
"""In the order of the prompt's tags; () is the bare model."""


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the text encoders made of one prompt.

    context: (77 * chunks, dim) float32. pooled: (dim,) of SDXL's second encoder, None elsewhere.
    """

    context: torch.Tensor
    pooled: torch.Tensor | None = None

    def on(self, device: torch.device) -> Conditioning:
        """The same on a device, where every step finds it without a copy."""
        return Conditioning(self.context.to(device), None if self.pooled is None else self.pooled.to(device))


@dataclass(frozen=True, slots=True)
class Encode:
    """Run the text encoders. Answer: a `Conditioning` for each prompt, in order.

    The prompts of one `Encode` are encoded together: the emphasis "Original" restores the mean over all of their chunks.
    """

    model: Any
    prompts: tuple[tuple[Chunk, ...], ...]
    clip_skip: int
    emphasis: str = "Original"
    adapters: Adapters = ()
    tiling: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a UNet forward.

    x: (C, h, w), already scaled; a model with more than four input channels finds the others behind the latent's. t: a
    fractional timestep. context: (77 * chunks, dim). vector: (n,) of SDXL's added conditioning, None elsewhere.
    control: what ControlNets add to this row.
    """

    x: torch.Tensor
    t: float
    context: torch.Tensor
    vector: torch.Tensor | None = None
    control: tuple[Any, ...] = ()
    features: list[torch.Tensor] = field(default_factory=list)
    """Where the features of this row are kept between steps (`feature_cache.Slot`)."""


@dataclass(frozen=True, slots=True)
class Denoise:
    """Run the UNet on rows, each for itself. Answer: a list of (4, h, w), in order."""

    model: Any
    rows: tuple[Row, ...]
    adapters: Adapters = ()
    tiling: bool = False
    merging: float = 0.0
    """Token merging ratio."""
    caching: str = ""
    """What becomes of the rows' features: `feature_cache.Caching`."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Run the VAE's decoder on a scaled latent (4, h, w). Answer: uint8 pixels (8h, 8w, 3), truncated not rounded.

    `tile`: side in pixels of the tiles it works in, 0 for whole pictures while they fit.
    """

    model: Any
    latent: torch.Tensor
    tiling: bool = False
    tile: int = 0


@dataclass(frozen=True, slots=True)
class EncodeImage:
    """Run the VAE's encoder on pixels (h, w, 3), float32 -1..1. Answer: the posterior's mean, scaled, (4, h // 8, w // 8)."""

    model: Any
    pixels: torch.Tensor
    tiling: bool = False
    tile: int = 0


@dataclass(frozen=True, slots=True)
class Enlarge:
    """Run an upscaling network. Answer: uint8 pixels (scale * h, scale * w, 3); the scale is the network's own."""

    path: Path
    pixels: np.ndarray[Any, Any]
    tile: int = 192
    overlap: int = 8


@dataclass(frozen=True, slots=True)
class Finished:
    """A picture is done. Answer: None, at once.

    `request`: what its infotext is written from, where that is not the job's own request. `index`: its place among the job's
    pictures, None for the plan's own.
    """

    pixels: np.ndarray[Any, Any]
    facts: ImageFacts
    request: GenerateRequest | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """Draw other plans, several at once. Answer: what they returned, in order.

    Each maker is given a track of its own, with `calls` UNet calls to do.
    """

    makers: tuple[Callable[[Track], Plan], ...]
    calls: tuple[int, ...]


Call = Load | Work | Encode | Denoise | Decode | EncodeImage | Enlarge | Finished | Together
Plan = Generator[Call, Any, Any]


@dataclass(slots=True)
class Track:
    """How far a plan is, written by the plan and read by the engine between steps.

    `interrupted` and `skipped` go the other way: the engine sets them, the plan stops sampling at its next step and decodes
    what it has; a script goes on with its next picture after a skip and ends after an interruption.
    """

    steps: int
    step: int = 0
    denoised: torch.Tensor | None = None
    """The latest estimate of the clean latent, (4, h, w), scaled: what a preview shows."""
    model: Any = None
    interrupted: bool = False
    skipped: bool = False
    notes: list[DanqingError] = field(default_factory=list)
    """What the owner is to know of a picture that is drawn all the same, such as the name of a network that is not there."""
