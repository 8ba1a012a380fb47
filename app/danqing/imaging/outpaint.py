"""Outpainting: how the canvas grows, and noise that continues a picture's texture ("Outpainting mk2")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from danqing.imaging.colour import match_histograms
from danqing.imaging.masks import Box

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

    `inset`: how far, in pixels along x and y, the white reaches into the old picture on the sides that grow. At the right and
    the bottom one row of the new belongs to the old, as the WebUI draws it.
    """
    width, height = by.size(size)
    mask = Image.new("L", (width, height), 255)
    left = by.left + (inset[0] if by.left else 0)
    top = by.up + (inset[1] if by.up else 0)
    right = width - by.right - (inset[0] if by.right else 0)
    bottom = height - by.down - (inset[1] if by.down else 0)
    if right >= left and bottom >= top:
        ImageDraw.Draw(mask).rectangle((left, top, right, bottom), fill=0)
    return mask


@dataclass(frozen=True, slots=True)
class Expansion:
    """One side's step of "Outpainting mk2".

    canvas: the picture with the new part as noise. box: the part of it that image to image is given. mask, latent_mask: over
    that part, white where it is painted. size: of the picture when the step is done; the canvas may be larger.
    """

    canvas: Image.Image
    box: Box
    mask: Image.Image
    latent_mask: Image.Image
    size: tuple[int, int]

    @property
    def picture(self) -> Image.Image:
        """What image to image is given."""
        return self.canvas.crop(self.box)

    def finished(self, painted: Image.Image) -> Image.Image:
        """The grown picture, with what image to image made of `picture`."""
        whole = self.canvas.copy()
        whole.paste(painted, self.box[:2])
        return whole.crop((0, 0, *self.size))


def expansion(
    image: Image.Image,
    side: Side,
    pixels: int,
    blur: int,
    size: tuple[int, int],
    quality: float = 1.0,
    variation: float = 0.05,
) -> Expansion:
    """`image` grown by `pixels` on one side.

    Args:
        blur: of the mask along the direction of growth; the other direction has none.
        size: width and height at which image to image works: no more than this is given to it along the growth.
    """
    across = side in ("left", "right")
    by = Margins(**{side: pixels})
    grown = by.size(image.size)
    # The canvas is whole 64s; what is over lies at the right and the bottom, and is cut off in the end.
    rest = (_up(grown[0], 64) - grown[0], _up(grown[1], 64) - grown[1])
    canvas = widened(image, replace(by, right=by.right + rest[0], down=by.down + rest[1]))
    blurs = (blur, 0) if across else (0, blur)
    old = _old_part(image.size, by, blurs, canvas.size)
    noise = shaped_noise(np.asarray(canvas) / 255, np.asarray(old) / 255, quality, variation)
    canvas = Image.fromarray(np.clip(noise * 255, 0, 255).astype(np.uint8))
    width = min(size[0], image.width + pixels) if across else canvas.width
    height = min(size[1], image.height + pixels) if not across else canvas.height
    left = 0 if side == "left" else canvas.width - width
    top = 0 if side == "up" else canvas.height - height
    box = (left, top, left + width, top + height)
    inner = _old_part(
        (width - pixels * across, height - pixels * (not across)), by, (2 * blurs[0], 2 * blurs[1]), (width, height)
    )
    return Expansion(canvas, box, old.crop(box), inner, grown)


def _old_part(size: tuple[int, int], by: Margins, inset: tuple[int, int], canvas: tuple[int, int]) -> Image.Image:
    """`new_area`'s mask on a canvas that may be larger than picture and margin: counted from the canvas's far edges."""
    rest = (canvas[0] - by.size(size)[0], canvas[1] - by.size(size)[1])
    return new_area((size[0] + rest[0], size[1] + rest[1]), by, inset)


def shaped_noise(picture: Array, painted: Array, quality: float = 1.0, variation: float = 0.05, seed: int = 0) -> Array:
    """A picture continued into its unknown part by noise of the known part's texture and colours.

    The method of g-diffuser (parlance-zz, https://github.com/parlance-zz/g-diffuser-bot, Unlicense): noise is given the
    picture's Fourier magnitudes and phases, then the histogram of what is known.

    Args:
        picture: (h, w, 3) float, 0..1.
        painted: (h, w) float, 0..1: 1 where the picture is unknown.
        quality: exponent of the picture's spectrum; larger is smoother.
        variation: share of colour in the noise; the rest is grey.

    Returns: (h, w, 3) float64, 0..1; the known part is the picture's.
    """
    mask = np.asarray(painted, np.float64)[:, :, None]
    known, unknown = painted < 1e-3, painted > 1e-6
    brightest = float((picture * (1 - mask)).max())
    if not known.any() or not unknown.any() or brightest <= 0:
        return np.asarray(np.clip(picture, 0, 1), np.float64)
    average = np.asarray(picture).mean()
    spectrum = _fft(picture * (1 - mask) / brightest + average * mask)
    magnitude = np.abs(spectrum)
    phase = np.divide(spectrum, magnitude, out=np.ones_like(spectrum), where=magnitude > 0)
    noise: Array = np.asarray(np.random.default_rng(seed).random(picture.shape))
    noise = noise * variation + (1 - variation) * noise.mean(axis=2, keepdims=True)
    soft = np.real(_ifft(_fft(noise) * _window(*painted.shape)[:, :, None]))
    shaped = np.real(_ifft(np.abs(_fft(soft)) ** 2 * magnitude**quality * phase))
    shaped -= shaped.min()
    shaped /= max(float(shaped.max()), 1e-12)
    shaped[unknown] = match_histograms(shaped[unknown], np.asarray(picture[known], np.float64))
    return np.asarray(np.clip(picture * (1 - mask) + shaped * mask, 0, 1))


def _fft(values: Array) -> Array:
    """Of each channel, low frequencies in the middle."""
    axes = (0, 1)
    return np.asarray(np.fft.ifftshift(np.fft.fft2(np.fft.fftshift(values, axes), axes=axes, norm="ortho"), axes))


def _ifft(values: Array) -> Array:
    axes = (0, 1)
    return np.asarray(np.fft.ifftshift(np.fft.ifft2(np.fft.fftshift(values, axes), axes=axes, norm="ortho"), axes))


def _window(height: int, width: int, spread: float = 3.14) -> Array:
    """The fall-off of the first noise's spectrum: product of two Cauchy bells, 1 in the middle."""
    short = min(height, width)
    y = (np.arange(height) / height * 2 - 1) * (height / short)
    x = (np.arange(width) / width * 2 - 1) * (width / short)
    return np.asarray((1 / ((y[:, None] ** 2 + 1) * (x[None, :] ** 2 + 1))) ** (spread / 3.14))
