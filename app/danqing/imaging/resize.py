"""The WebUI's resize modes, and what is done to an input picture before it meets a size.

Modes: 0 stretches, 1 covers the size and crops, 2 fits into the size and fills the borders with the edges' colours. Each is
two steps, `inner_size` (how large the picture is drawn) and `placed` (where it comes to lie), so that a network may do the
resizing between them.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from danqing.errors import DanqingError

STRETCH, CROP, FILL, LATENT = 0, 1, 2, 3

Upscale = Callable[[Image.Image, int, int], Image.Image]
"""(picture, width, height) to a picture of that size."""


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the latent of a picture in pixels: whole eighths."""
    return width // 8, height // 8


def inner_size(mode: int, size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Width and height to which a picture of `size` is scaled before it is cropped or padded to `width` x `height`."""
    own_width, own_height = size
    if mode in (STRETCH, LATENT):
        return width, height
    wider = width * own_height > own_width * height
    if wider == (mode == CROP):
        return width, max(1, own_height * width // own_width)
    return max(1, own_width * height // own_height), height


def placed(mode: int, resized: Image.Image, width: int, height: int) -> Image.Image:
    """`resized`, of `inner_size`, centred on a canvas of `width` x `height`: cropped (mode 1) or padded (mode 2)."""
    if mode in (STRETCH, LATENT) or resized.size == (width, height):
        return resized
    canvas = Image.new(resized.mode, (width, height))
    left, top = width // 2 - resized.width // 2, height // 2 - resized.height // 2
    canvas.paste(resized, (left, top))
    if mode == FILL:
        _fill_borders(canvas, resized, left, top)
    return canvas


def _fill_borders(canvas: Image.Image, resized: Image.Image, left: int, top: int) -> None:
    """Stretch the edges into the borders. A source box without thickness is how Pillow extrapolates an edge."""
    width, height = canvas.size
    if top > 0:
        for box_y, y, thick in ((0, 0, top), (resized.height, top + resized.height, height - top - resized.height)):
            if thick > 0:
                edge = resized.resize((width, thick), box=(0, box_y, width, box_y))
                canvas.paste(edge, (0, y))
    if left > 0:
        for box_x, x, thick in ((0, 0, left), (resized.width, left + resized.width, width - left - resized.width)):
            if thick > 0:
                edge = resized.resize((thick, height), box=(box_x, 0, box_x, height))
                canvas.paste(edge, (x, 0))


def resize_image(mode: int, image: Image.Image, width: int, height: int, upscale: Upscale | None = None) -> Image.Image:
    """`image` at `width` x `height` pixels.

    `upscale` does the resizing in place of Lanczos where the picture grows and is not greyscale.
    """
    target = inner_size(mode, image.size, width, height)
    grows = max(target[0] / image.width, target[1] / image.height) > 1
    if upscale is not None and grows and image.mode != "L":
        resized = upscale(image, *target)
        if resized.size != target:
            resized = resized.resize(target, Image.Resampling.LANCZOS)
    else:
        resized = image.resize(target, Image.Resampling.LANCZOS)
    return placed(mode, resized, width, height)


def flattened(image: Image.Image, background: str = "#ffffff") -> Image.Image:
    """`image` as RGB, what is transparent in it laid on the colour `background` ("#rrggbb").

    Raises:
        DanqingError: `invalid_field`, for what is no colour.
    """
    try:
        ground = Image.new("RGBA", image.size, background)
    except ValueError:
        raise DanqingError("invalid_field", field="background", reason=f"{background!r} is no colour") from None
    if image.mode in ("LA", "PA", "RGBa") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        ground.paste(image, mask=image)
        return ground.convert("RGB")
    return image.convert("RGB")
