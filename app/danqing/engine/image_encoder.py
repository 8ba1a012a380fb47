"""CLIP's image encoders (Radford et al. 2021, https://arxiv.org/abs/2103.00020), which read a picture for an IP-Adapter.

They lie under DATA/models/clip_vision in transformers' layout; which one a model wants is found by its width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing.engine.building import fill_parts
from danqing.errors import DanqingError
from danqing.library.control_kinds import EncoderShape, encoder_shape
from danqing.library.index import stamp_of
from danqing.library.keys import Route
from danqing.library.routes import Destination, Routes
from danqing.library.walking import files_below
from danqing.library.weights import FILES, open_weights

FOLDER = ("models", "clip_vision")

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP learnt from, red, green, blue."""

CONFIG_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """An image encoder on disk."""

    path: Path
    shape: EncoderShape

    @property
    def key(self) -> str:
        """The file in one state."""
        return f"{self.path}:{stamp_of(self.path)}"


@dataclass(slots=True, eq=False)
class ImageEncoder:
    """An image encoder on a device. `side`: pixels of the square that it sees."""

    module: Any
    side: int

    @torch.no_grad()
    def seen(self, picture: Image.Image, hidden: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """What it makes of the picture, and what stands for no picture.

        hidden: the last but one layer's states (1, tokens, width), and those of a square of CLIP's mean colour; else the
        projected vector (1, width), and zeros.
        """
        pixels = clip_pixels(picture, self.side).to(self.module.device, self.module.dtype)
        if hidden:
            both = self.module(torch.cat([pixels, torch.zeros_like(pixels)]), output_hidden_states=True)
            states = both.hidden_states[-2]
            return states[:1], states[1:]
        vector = self.module(pixels).image_embeds
        return vector, torch.zeros_like(vector)


def clip_square(picture: Image.Image, side: int) -> Image.Image:
    """The middle of the picture, its shorter side brought to `side` pixels."""
    width, height = (side * length // min(picture.size) for length in picture.size)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return small.crop((left, top, left + side, top + side))


def clip_pixels(picture: Image.Image, side: int) -> torch.Tensor:
    """(1, 3, side, side) float32 as CLIP wants it."""
    square = torch.from_numpy(np.array(clip_square(picture, side))).float() / 255
    whole = (square - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    return whole.permute(2, 0, 1)[None]


def find_encoder(data: Path, name: str, width: int, hidden: bool) -> EncoderFile:
    """The image encoder on disk that a model wants.

    Args:
        name: of the model, for an error.
        width: of the states (`hidden`) or of the projected vector.

    Raises:
        DanqingError: `image_encoder_missing`.
    """
    folder = data.joinpath(*FOLDER)
    for path in sorted(path for path in files_below(folder) if path.suffix.lower() in FILES):
        try:
            shape = encoder_shape(open_weights(path).shapes, _config(path))
        except DanqingError:
            continue
        if shape is not None and width == (shape.width if hidden else shape.projection):
            return EncoderFile(path, shape)
    what = "hidden_size" if hidden else "projection_dim"
    raise DanqingError("image_encoder_missing", name=name, folder=str(folder), what=what, width=width)


def _config(path: Path) -> dict[str, Any]:
    """The `config.json` beside the file, {} where there is none."""
    beside = path.with_name("config.json")
    try:
        found = json.loads(beside.read_text("utf-8")) if beside.stat().st_size <= CONFIG_LIMIT else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def load_encoder(file: EncoderFile, device: torch.device, dtype: torch.dtype) -> ImageEncoder:
    """
    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shape, weights = file.shape, open_weights(file.path)
    config = CLIPVisionConfig(
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        hidden_act=shape.activation,
        image_size=shape.side,
        patch_size=shape.patch,
        projection_dim=shape.projection,
    )
    with torch.device("meta"):
        module = CLIPVisionModelWithProjection(config)
    routes: Routes = {
        name: (Destination("image encoder", Route(name)),)
        for name in weights.shapes
        if not name.endswith("position_ids")
    }
    try:
        fill_parts({"image encoder": module}, weights, routes, device, dtype)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise DanqingError("model_broken", name=file.path.name, reason=reason) from error
    return ImageEncoder(module, shape.side)
