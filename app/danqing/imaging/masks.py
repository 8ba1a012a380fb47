"""Masks of inpainting: made ready, cropped to, filled under, and laid over the result.

White (255) is painted anew, black stays.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from danqing.imaging.resize import CROP, FILL, resize_image

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are the first outside."""

FILL_BLURS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""Radius in pixels, and how many layers of it are laid upon the last."""


def binary_mask(image: Image.Image, rounded: bool = True) -> Image.Image:
    """A greyscale mask from a picture: the alpha channel of one that is partly transparent, else its luminance.

    Alpha is cut at 128 when `rounded`.
    """
    if image.mode in ("LA", "PA", "RGBa") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode == "RGBA" and image.getextrema()[-1] != (255, 255):
        alpha = image.split()[-1]
        return alpha.point([255 if level > 128 else 0 for level in range(256)]) if rounded else alpha
    return image.convert("L")


def blurred(mask: Image.Image, blur_x: int, blur_y: int) -> Image.Image:
    """Gaussian blur along x, then along y, of the given deviations in pixels; 0 leaves an axis alone."""
    pixels = np.array(mask)
    if blur_x > 0:
        pixels = cv2.GaussianBlur(pixels, (kernel_size(blur_x), 1), blur_x)
    if blur_y > 0:
        pixels = cv2.GaussianBlur(pixels, (1, kernel_size(blur_y)), blur_y)
    return Image.fromarray(pixels)


def kernel_size(blur: float) -> int:
    """Taps of the Gaussian kernel: two and a half deviations to each side."""
    return 2 * int(2.5 * blur + 0.5) + 1


def prepared(image: Image.Image, rounded: bool, invert: bool, blur_x: int, blur_y: int) -> Image.Image:
    """The mask as inpainting uses it: made greyscale, inverted, blurred, in this order."""
    mask = binary_mask(image, rounded)
    return blurred(ImageOps.invert(mask) if invert else mask, blur_x, blur_y)


def crop_region(mask: Image.Image, padding: int) -> Box | None:
    """The box round everything that is not black, `padding` pixels wider, inside the picture. None: all is black."""
    found = mask.getbbox()
    if found is None:
        return None
    left, top, right, bottom = found
    return (
        max(left - padding, 0),
        max(top - padding, 0),
        min(right + padding, mask.width),
        min(bottom + padding, mask.height),
    )


def expanded(box: Box, width: int, height: int, image_size: tuple[int, int]) -> Box:
    """`box` grown along its shorter side to the aspect of `width` x `height`, as far as the picture allows."""
    left, top, right, bottom = box
    if (right - left) / (bottom - top) > width / height:
        top, bottom = _grown(top, bottom, int((right - left) / (width / height)), image_size[1])
    else:
        left, right = _grown(left, right, int((bottom - top) * (width / height)), image_size[0])
    return left, top, right, bottom


def _grown(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """The span made `length` long round its middle, then moved inside 0..limit, then cut."""
    more = length - (end - start)
    start -= more // 2
    end += more - more // 2
    if end >= limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, min(end - start, limit)
    return start, end


def only_masked(mask: Image.Image, padding: int, width: int, height: int) -> Box | None:
    """The crop of "only masked" for a picture of the mask's size, None when the mask is black."""
    box = crop_region(mask, padding)
    return None if box is None else expanded(box, width, height, mask.size)


def cropped(image: Image.Image, box: Box, width: int, height: int) -> Image.Image:
    """The part of `image` in `box`, at `width` x `height` (fit, borders filled)."""
    return resize_image(FILL, image.crop(box), width, height)


def whole_overlay_mask(mask: Image.Image) -> Image.Image:
    """What of the result is laid over the original when the whole picture is inpainted: twice the mask, at most 255."""
    doubled = np.clip(np.array(mask).astype(np.float32) * 2, 0, 255).astype(np.uint8)
    return Image.fromarray(doubled)


def overlay(image: Image.Image, overlay_mask: Image.Image) -> Image.Image:
    """The original (RGBA) with the masked part cut out, to be laid over the result."""
    # Pillow's premultiplied mode: what is cut out keeps no colour that could bleed when the overlay is resized.
    cut = Image.new("RGBa", image.size)
    cut.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(overlay_mask.convert("L")))
    return cut.convert("RGBA")


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`image` (RGB) with the masked part painted over by ever finer blurs of its surroundings."""
    surroundings = Image.new("RGBa", image.size)
    surroundings.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask.convert("L")))
    result = Image.new("RGBA", image.size)
    for radius, layers in FILL_BLURS:
        layer = surroundings.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(layers):
            result.alpha_composite(layer)
    return result.convert("RGB")


def latent_mask(mask: Image.Image, width: int, height: int, rounded: bool) -> np.ndarray[Any, Any]:
    """The mask over a latent of `width` x `height`: (height, width) float32, 1 where it is painted anew."""
    small = mask.convert("RGB").resize((width, height))
    values = np.asarray(small)[:, :, 0].astype(np.float32) / 255
    return np.around(values) if rounded else values


def pasted_back(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """A result of "only masked" at its place in an otherwise empty picture of `size` (RGBA)."""
    left, top, right, bottom = box
    fitted = resize_image(CROP, image, right - left, bottom - top)
    canvas = Image.new("RGBA", size)
    canvas.paste(fitted, (left, top))
    return canvas


def composed(result: Image.Image, over: Image.Image | None, box: Box | None = None) -> Image.Image:
    """The result (RGB) with the original laid over it; first put back at its place when it was cropped to `box`."""
    if over is None:
        return result
    below = pasted_back(result, box, over.size) if box is not None else result.convert("RGBA")
    below.alpha_composite(over)
    return below.convert("RGB")


def mask_composite(result: Image.Image, overlay_mask: Image.Image, box: Box | None = None) -> Image.Image:
    """What was painted, everything else transparent (RGBA): the picture that "return mask composite" adds.

    `result`: the picture before the original is laid over it.
    """
    if box is not None:
        result = pasted_back(result, box, overlay_mask.size)
    clear = Image.new("RGBa", overlay_mask.size)
    painted = result.convert("RGBA").convert("RGBa")
    return Image.composite(painted, clear, overlay_mask.convert("L")).convert("RGBA")


def is_black(mask: Image.Image) -> bool:
    """Nothing is to be painted."""
    return mask.getbbox() is None


def united(one: Image.Image, other: Image.Image) -> Image.Image:
    """The lighter of two greyscale masks at every pixel."""
    return ImageChops.lighter(one.convert("L"), other.convert("L"))
