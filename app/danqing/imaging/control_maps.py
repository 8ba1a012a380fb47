"""Control maps brought to the size of a picture, with thin lines kept thin and flat colours flat."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Map = np.ndarray[Any, Any]

STRETCH, CROP, FILL = "Just Resize", "Crop and Resize", "Resize and Fill"

FLAT_COLOURS = 200
"""A map of fewer colours than this is made of areas: new colours between them would mean something else."""


def fitted(control: Map, mode: str, width: int, height: int) -> Map:
    """A map (h, w, 3) uint8 at `height` x `width`.

    "Crop and Resize" covers the size and cuts the middle out; "Resize and Fill" fits into it, on the median colour of the
    map's border.
    """
    if mode == STRETCH:
        return resized(control, width, height)
    old_height, old_width = control.shape[:2]
    ratios = height / old_height, width / old_width
    scale = max(ratios) if mode == CROP else min(ratios)
    inner = resized(control, max(1, round(old_width * scale)), max(1, round(old_height * scale)))
    new_height, new_width = inner.shape[:2]
    if mode == CROP:
        top, left = max(0, (new_height - height) // 2), max(0, (new_width - width) // 2)
        return np.ascontiguousarray(inner[top : top + height, left : left + width])
    edges = np.concatenate([control[0], control[-1], control[:, 0], control[:, -1]])
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = np.median(edges, axis=0).astype(np.uint8)
    top, left = max(0, (height - new_height) // 2), max(0, (width - new_width) // 2)
    canvas[top : top + new_height, left : left + new_width] = inner
    return canvas


def resized(control: Map, width: int, height: int) -> Map:
    """A map at another size: areas by the nearest colour, lines as lines, everything else smoothly."""
    old_height, old_width = control.shape[:2]
    if (old_width, old_height) == (width, height):
        return control
    colours = _colours(control)
    binary = colours == 2 and int(control.min()) < 16 and int(control.max()) > 240
    lines = binary and _is_lines(control)
    smaller = width * height < old_width * old_height
    smooth = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    how = cv2.INTER_NEAREST if 2 < colours < FLAT_COLOURS else smooth
    result: Map = cv2.resize(control, (width, height), interpolation=how)
    if not binary:
        return result
    grey = result.astype(np.float32).mean(axis=2).clip(0, 255).astype(np.uint8)
    if lines:
        grey = _ridges(grey)
    _, grey = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if lines:
        grey = thinned(grey)
    return np.stack([grey] * 3, axis=2)


def _colours(control: Map) -> int:
    packed = control.astype(np.uint32)
    return len(np.unique(packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]))


def _is_lines(control: Map) -> bool:
    """Whether more than half of what is white vanishes when it is opened: lines of one pixel."""
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.dilate(cv2.erode(control, kernel), kernel)
    return int((opened < control).sum()) * 2 > int((control > 127).sum())


def _ridges(grey: Map) -> Map:
    """Only what is brightest across a line in one of four directions."""
    shapes = (
        np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint8),
        np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0]], np.uint8),
        np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8),
        np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.uint8),
    )
    found = np.zeros_like(grey)
    for shape in shapes:
        np.putmask(found, cv2.dilate(grey, shape) == grey, grey)
    return found


def thinned(grey: Map, rounds: int = 32) -> Map:
    """White lines down to one pixel: Zhang and Suen 1984, "A fast parallel algorithm for thinning digital patterns"."""
    image = np.pad((grey > 127).astype(np.uint8), 1)
    for _ in range(rounds):
        before = image.copy()
        for second in (False, True):
            image[1:-1, 1:-1] &= ~_removable(image, second) & 1
        if (before == image).all():
            break
    return image[1:-1, 1:-1] * np.uint8(255)


def _removable(image: Map, second: bool) -> Map:
    """Pixels whose loss leaves their line whole, in one of the two half steps; as 0 or 1."""
    centre = image[1:-1, 1:-1]
    height, width = centre.shape
    offsets = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    ring = [image[y : y + height, x : x + width] for y, x in offsets]
    north, _, east, _, south, _, west, _ = ring
    count = sum(one.astype(np.int16) for one in ring)
    rises = sum(((a == 0) & (b == 1)).astype(np.int16) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
    if second:
        sides = (north & east & west == 0) & (north & south & west == 0)
    else:
        sides = (north & east & south == 0) & (east & south & west == 0)
    gone: Map = (centre == 1) & (count >= 2) & (count <= 6) & (rises == 1) & sides
    return gone.astype(np.uint8)
