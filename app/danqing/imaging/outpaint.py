"""Outpainting: how the canvas grows, and noise that continues a picture's texture ("Outpainting mk2")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from danqing.imaging.colour import match_histograms

Array = np.ndarray[Any, Any]
Side = Literal["left", "right", "up", "down"]

SIDES: tuple[Side, ...] = ("left", "right", "up", "down")
"""In the order in which they are painted."""


@dataclass(frozen=True, slots=True)
class Margins:
    """Pixels added on each side of a picture."""

    left: int = 0
    right: int = 0
    up: int = 0
    down: int = 0

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height with the margins."""
        return size[0] + self.left + self.right, size[1] + self.up + self.down


def margins(size: tuple[int, int], pixels: int, sides: tuple[str, ...], multiple: int = 64) -> Margins:
    """`pixels` on each of `sides`, then more, so that both sides of the picture are multiples of `multiple`.

    What is added to reach the multiple is shared by the two sides that grow, or goes to the one.
    """
    left, right, up, down = (pixels if side in sides else 0 for side in SIDES)
    width = _up(size[0] + left + right, multiple)
    height = _up(size[1] + up + down, multiple)
    left, right = _shared(width - size[0], left, right)
    up, down = _shared(height - size[1], up, down)
    return Margins(left, right, up, down)


def _up(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def _shared(more: int, before: int, after: int) -> tuple[int, int]:
    """`more` pixels in all, for the side before and the side behind."""
    if before:
        before = more * before // (before + after)
    return before, more - before if after else 0


def widened(image: Image.Image, by: Margins, ground: Image.Image | None = None) -> Image.Image:
    """`image` on a canvas grown by `by`: black, or the resized `ground`."""
    size = by.size(image.size)
    canvas = Image.new("RGB", size) if ground is None else ground.resize(size)
    canvas.paste(image, (by.left, by.up))
    return canvas


def new_area(size: tuple[int, int], by: Margins, inset: tuple[int, int] = (0, 0)) -> Image.Image:
    """A mask over the grown canvas of a picture of `size`: white where it is new.

    `inset`: how far, in pixels along x and y, the white reaches into the old picture on the sides that grow.
    """
    width, height = by.size(size)
    mask = Image.new("L", (width, height), 255)
    left = by.left + (inset[0] if by.left else 0)
    top = by.up + (inset[1] if by.up else 0)
    right = width - by.right - (inset[0] if by.right else 0)
    bottom = height - by.down - (inset[1] if by.down else 0)
    if right > left and bottom > top:
        mask.paste(0, (left, top, right, bottom))
    return mask


def shaped_noise(picture: Array, painted: Array, quality: float = 1.0, variation: float = 0.05, seed: int = 0) -> Array:
    """Noise with the texture and the colours of the known part of a picture, laid into the unknown part.

    The noise takes the picture's Fourier magnitudes and its own phases, with a random hue; then the known part's histogram.

    Args:
        picture: (h, w, 3) float, 0..1.
        painted: (h, w) float, 0..1: 1 where the picture is unknown.
        quality: exponent of the noise's spectrum; larger is smoother.
        variation: share of the noise's own colours.

    Returns: (h, w, 3) float64, 0..1; the known part is the picture's.
    """
    rng = np.random.RandomState(seed)
    height, width = painted.shape
    known, unknown = painted < 0.99, painted > 1e-3
    if not known.any() or not unknown.any():
        return np.clip(np.asarray(picture, np.float64), 0, 1)
    windowed = picture * (1 - painted)[:, :, None]
    missing = max(float(painted.mean()), 0.0)
    windowed = windowed * math.sqrt(1 / max(1 - missing, 1e-3)) if missing < 1 else windowed
    grey = rng.random_sample((height, width)) * 2 - 1
    noise = np.broadcast_to(grey[:, :, None], (height, width, 3))
    own = rng.random_sample((height, width, 3)) * 2 - 1
    noise = variation * own + (1 - variation) * noise
    ring = _bell(height, width) ** max(quality, 0.0)
    spectrum = np.fft.fft2(noise, axes=(0, 1), norm="ortho")
    magnitude = np.abs(np.fft.fft2(windowed, axes=(0, 1), norm="ortho"))
    magnitude *= np.fft.ifftshift(0.5 + ring / 2)[:, :, None]
    shaped = np.real(np.fft.ifft2(magnitude**2 * np.exp(1j * np.angle(spectrum)), axes=(0, 1), norm="ortho"))
    shaped = _stretched(shaped)
    shaped[unknown] = match_histograms(shaped[unknown][:, None, :] ** 1.0, np.asarray(picture[known])[:, None, :])[:, 0]
    weight = painted[:, :, None]
    return np.asarray(np.clip(picture * (1 - weight) + shaped * weight, 0, 1))


def _bell(height: int, width: int) -> Array:
    """A separable Gaussian over the picture, 1 in the middle."""
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    return np.asarray(np.exp(-4 * (y**2 + x**2)))


def _stretched(values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-12)
