"""Extras: finished pictures made larger and their faces mended (spec 14)."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine.calls import Call, Enlarge, Finished, Plan, Track, Work
from danqing.engine.protocol import ImageFacts
from danqing.engine.scaling import scaled
from danqing.errors import DanqingError
from danqing.request import Extras
from danqing.upscale import catalog, faces

if TYPE_CHECKING:
    from pathlib import Path

    from danqing.engine.studio import Studio
    from danqing.options import DrawOptions
    from danqing.request import GenerateRequest

Pixels = np.ndarray[Any, Any]
Pairs = dict[str, str | int | float]

MOST_PIXELS = 2**27
"""Of a result: more than this (16384 x 8192) is refused before it is begun."""


def extras(request: GenerateRequest, studio: Studio, track: Track) -> Plan:
    """The request's input pictures, each as `request.extras` says, handed out in order.

    Raises:
        DanqingError: `missing_picture`, `unknown_upscaler`, `upscaler_missing`, `files_missing`, `too_many_pixels`, and
            those of reading a network.
    """
    wanted = request.extras or Extras()
    if not request.init_images:
        raise DanqingError("missing_picture", field="image")
    check(studio.data, wanted)
    track.steps = len(request.init_images)
    for index, name in enumerate(request.init_images):
        pixels: Pixels = yield Work(partial(read, studio, name))
        pairs: Pairs = {}
        pixels = yield from processed(studio.data, request.options, wanted, pixels, pairs)
        height, width = pixels.shape[:2]
        facts = ImageFacts(max(request.seed, 0), width, height, "", "", request.scheduler, extra=pairs)
        yield Finished(pixels, facts, index=index)
        track.step = index + 1
        if track.interrupted:
            break


def read(studio: Studio, name: str) -> Pixels:
    """An input picture's pixels, (h, w, 3) uint8."""
    return np.asarray(studio.image(name).convert("RGB"))


def check(data: Path, wanted: Extras) -> None:
    """Refuse what cannot be done before any of it is.

    Raises:
        DanqingError: `unknown_upscaler`, `upscaler_missing`, `files_missing`.
    """
    for name in (wanted.upscaler_1, wanted.upscaler_2):
        catalog.find(data, name)
    if wanted.gfpgan_visibility > 0:
        faces.weights(data, "GFPGAN")
    if wanted.codeformer_visibility > 0:
        faces.weights(data, "CodeFormer")


def processed(
    data: Path, options: DrawOptions, wanted: Extras, pixels: Pixels, pairs: Pairs
) -> Generator[Call, Any, Pixels]:
    """One picture (h, w, 3) uint8, upscaled, then restored. `pairs` is given what the infotext says of it."""
    pixels = yield from upscaled(data, options, wanted, pixels, pairs)
    for name, visibility in (("GFPGAN", wanted.gfpgan_visibility), ("CodeFormer", wanted.codeformer_visibility)):
        if visibility <= 0:
            continue
        restored = yield from restored_faces(data, name, pixels)
        pixels = blended(pixels, restored, visibility)
        pairs[f"{name} visibility"] = round(visibility, 3)
        if name == "CodeFormer":
            pairs["CodeFormer weight"] = round(wanted.codeformer_weight, 3)
    return pixels


def restored_faces(data: Path, name: str, pixels: Pixels) -> Generator[Call, Any, Pixels]:
    """`pixels` with every face that is found put through the restorer `name`."""
    kit = faces.weights(data, name)
    found: list[faces.Face] = yield Work(lambda: faces.detected(kit.detector, pixels))
    for face in found:
        crop: Pixels = yield Work(partial(faces.aligned, pixels, face))
        mended: Pixels = yield Enlarge(kit.restorer, crop, tile=0, overlap=0)
        pixels = yield Work(partial(faces.pasted, pixels, mended, face))
    return pixels


def upscaled(
    data: Path, options: DrawOptions, wanted: Extras, pixels: Pixels, pairs: Pairs
) -> Generator[Call, Any, Pixels]:
    """The picture by the first upscaler, the second's laid over it as visibly as asked. "None" leaves it as it is."""
    if wanted.upscaler_1 in ("None", ""):
        return pixels
    height, width = pixels.shape[:2]
    scale, crop = target_of(wanted, width, height, pairs)
    if int(width * scale) * int(height * scale) > MOST_PIXELS:
        raise DanqingError("too_many_pixels", width=int(width * scale), height=int(height * scale), maximum=MOST_PIXELS)
    result = yield from scaled(data, options, wanted.upscaler_1, pixels, scale)
    pairs["Postprocess upscaler"] = wanted.upscaler_1
    result = cropped(result, crop)
    if wanted.upscaler_2 not in ("None", "") and wanted.upscaler_2_visibility > 0:
        second = yield from scaled(data, options, wanted.upscaler_2, pixels, scale)
        result = blended(result, cropped(second, crop), wanted.upscaler_2_visibility)
        pairs["Postprocess upscaler 2"] = wanted.upscaler_2
    return result


def target_of(wanted: Extras, width: int, height: int, pairs: Pairs) -> tuple[float, tuple[int, int] | None]:
    """The factor for a picture of `width` x `height`, and the size it is cropped to afterwards, None for no cropping."""
    if wanted.resize_mode == 1:
        size = (wanted.width, wanted.height)
        pairs["Postprocess upscale to"] = f"{size[0]}x{size[1]}"
        if wanted.crop:
            pairs["Postprocess crop to"] = f"{size[0]}x{size[1]}"
        return max(size[0] / width, size[1] / height), size if wanted.crop else None
    limit, scale = wanted.max_side, wanted.resize
    if limit and max(width, height) * scale > limit:
        size = limited(width * scale, height * scale, limit)
        pairs["Max side length"] = limit
        pairs["Postprocess upscale to"] = f"{size[0]}x{size[1]}"
        return max(size[0] / width, size[1] / height), None
    pairs["Postprocess upscale by"] = scale
    return scale, None


def limited(width: float, height: float, limit: int) -> tuple[int, int]:
    """The size with its longer side at `limit`."""
    longest = max(width, height)
    return int(width * limit / longest), int(height * limit / longest)


def cropped(pixels: Pixels, size: tuple[int, int] | None) -> Pixels:
    """The middle of the picture, on black where it is smaller than `size`."""
    if size is None:
        return pixels
    image = Image.fromarray(pixels)
    canvas = Image.new("RGB", size)
    canvas.paste(image, (size[0] // 2 - image.width // 2, size[1] // 2 - image.height // 2))
    return np.asarray(canvas)


def blended(pixels: Pixels, over: Pixels, visibility: float) -> Pixels:
    """`over` laid on `pixels`, both of one size."""
    if visibility >= 1:
        return over
    return np.asarray(Image.blend(Image.fromarray(pixels), Image.fromarray(over), visibility))
