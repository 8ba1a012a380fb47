"""Pictures that the WebUI made, and differences from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REFERENCE = Path(__file__).parent.parent / "engine" / "reference"


def given(name: str) -> Image.Image:
    """An input picture of the recordings."""
    return Image.open(REFERENCE / "inputs" / name)


def recorded(name: str, folder: str = "img2img") -> Image.Image:
    return Image.open(REFERENCE / folder / f"{name}.png")


def request_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REFERENCE / "img2img" / f"{name}.json").read_text("utf-8"))["request"]
    return found


def difference(one: Image.Image | np.ndarray, other: Image.Image | np.ndarray) -> int:
    """Largest difference of a channel; pictures of two sizes or modes differ by 256."""
    a, b = np.asarray(one).astype(int), np.asarray(other).astype(int)
    return int(np.abs(a - b).max()) if a.shape == b.shape else 256


def gradient(width: int, height: int) -> Image.Image:
    """A smooth picture whose every pixel tells its place."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))
