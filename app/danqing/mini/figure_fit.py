"""Finds the figure in a picture: eleven numbers (place, height, angles) whose drawing is nearest to the pixels.

Starts from many figures laid on what differs from the background, refines the best ones number by number. No network.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from danqing.mini.drawing import SKINS, TROUSERS
from danqing.mini.judge import Floats, background_of, foreground, lab
from danqing.mini.poses import POSES, figure_points, free_angles, named_angles
from danqing.mini.scenes import SIZE

Pixels = NDArray[np.uint8]

SIDE = 64
"""The search works at half the size."""

FARTHEST = 40.0
"""Distance in Lab beyond which a pixel is simply wrong."""

STARTS, BEST = 240, 6
STEPS = (1.0, 0.5, 0.25, 0.12)
_SCALES = np.array([4.0, 4.0, 5.0] + [0.5] * 8)
"""First step of every number: pixels for place and height, radians."""

LEAST = 200
"""Pixels that differ from the background, fewer are no figure."""

BEHIND, LEGS, SHIRT, SKIN, HAIR = range(5)


@dataclass(frozen=True)
class Figure:
    """`numbers`: x, y of the middle and height in pixels; then angles of upper arm, forearm (right, left), thigh, shin."""

    numbers: Floats

    def joints(self) -> Floats:
        """The 18 OpenPose points in pixels: (18, 2)."""
        x, y, height = self.numbers[:3]
        points: Floats = np.array(figure_points(tuple(self.numbers[3:]))) * height + (x, y)
        return points

    def drawn(self, side: int = SIZE) -> NDArray[np.uint8]:
        """What covers what: (side, side) of BEHIND, LEGS, SHIRT, SKIN and HAIR, as `drawing` draws a person."""
        canvas = Image.new("L", (side, side), BEHIND)
        pen, height = ImageDraw.Draw(canvas), self.numbers[2] * side / SIZE
        points = [tuple(point) for point in self.joints() * side / SIZE]
        for joints in ((8, 9, 10), (11, 12, 13)):
            _limb(pen, [points[k] for k in joints], 0.095 * height, LEGS)
        pen.polygon([points[k] for k in (2, 5, 11, 8)], fill=SHIRT)
        _limb(pen, [points[8], points[11]], 0.06 * height, LEGS)
        _limb(pen, [points[2], points[5]], 0.08 * height, SHIRT)
        for joints in ((2, 3, 4), (5, 6, 7)):
            _limb(pen, [points[k] for k in joints], 0.08 * height, SHIRT)
            _disc(pen, points[joints[-1]], 0.05 * height, SKIN)
        (x, y), unit = points[0], 0.1 * height
        _disc(pen, (x, y), unit, SKIN)
        pen.pieslice([x - unit, y - 1.1 * unit, x + unit, y + 0.7 * unit], 180, 360, fill=HAIR)
        return np.asarray(canvas)

    def shirt(self, picture: Pixels) -> Floats:
        """The median colour of the trunk."""
        points = [tuple(point) for point in self.joints()]
        canvas = Image.new("L", (SIZE, SIZE), 0)
        ImageDraw.Draw(canvas).polygon([points[k] for k in (2, 5, 11, 8)], fill=1)
        inside = picture[np.asarray(canvas) > 0]
        return np.asarray(np.median(inside if len(inside) else picture.reshape(-1, 3), 0), np.float64)


def _limb(pen: Any, places: list[Any], width: float, fill: int) -> None:
    pen.line(places, fill=fill, width=max(1, int(width)))
    for place in places:
        _disc(pen, place, width / 2, fill)


def _disc(pen: Any, place: Any, radius: float, fill: int) -> None:
    x, y = place
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def fitted_figure(picture: Pixels) -> Figure | None:
    """The figure of a picture (SIZE, SIZE, 3); None where there is nothing before the background."""
    mask, _ = foreground(picture)
    if mask.sum() < LEAST:
        return None
    target = _Target(picture)
    starts = sorted((target.laid(angles, mask) for angles in _starts()), key=target.cost)
    return min((target.refined(start) for start in starts[:BEST]), key=target.cost)


@cache
def _starts() -> tuple[tuple[float, ...], ...]:
    """Angles of figures to begin with: every named pose, and many bent at random."""
    rng = random.Random(4)
    named = [named_angles(pose, side) for pose in POSES for side in (0, 1)]
    return (*named, *(free_angles(rng) for _ in range(STARTS)))


class _Target:
    """A picture as the search sees it: for every pixel how far it is from each thing that could be there."""

    def __init__(self, picture: Pixels) -> None:
        small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))
        self.pixels = lab(small)
        skins, hairs = zip(*SKINS, strict=True)
        self.far = np.stack(
            [
                self._from([background_of(picture)]),
                self._from([TROUSERS]),
                np.zeros((SIDE, SIDE)),
                self._from(list(skins)),
                self._from(list(hairs)),
            ]
        )

    def _from(self, colours: list[Any]) -> Floats:
        gaps = [np.sqrt(np.square(self.pixels - lab(colour)).sum(-1)) for colour in colours]
        return np.asarray(np.minimum(np.min(gaps, axis=0), FARTHEST))

    def cost(self, figure: Figure) -> float:
        """Mean distance of the pixels from the figure's drawing; the shirt has whatever colour lies under most of it."""
        labels = figure.drawn(SIDE)
        shirt = self.pixels[labels == SHIRT]
        if not len(shirt):
            return FARTHEST
        gaps = np.sqrt(np.square(shirt - np.median(shirt, axis=0)).sum(-1))
        rest = np.take_along_axis(self.far, labels[None].astype(np.intp), 0)[0]
        return float((rest.sum() + np.minimum(gaps, FARTHEST).sum()) / rest.size)

    def laid(self, angles: tuple[float, ...], mask: NDArray[np.bool_]) -> Figure:
        """A figure as high as what is in the picture, and in its place."""
        rows, columns = np.nonzero(mask)
        points = np.array(figure_points(angles))
        (left, top), (right, low) = points.min(0) - 0.07, points.max(0) + 0.05
        height = float(np.clip((rows.max() - rows.min() + 1) / (low - top), 0.5 * SIZE, 0.95 * SIZE))
        x = (columns.min() + columns.max()) / 2 - height * (left + right) / 2
        y = (rows.min() + rows.max()) / 2 - height * (top + low) / 2
        return Figure(np.array([x, y, height, *angles]))

    def refined(self, figure: Figure) -> Figure:
        """Number by number, in ever smaller steps, while it helps."""
        best = self.cost(figure)
        for step in STEPS:
            for place in range(len(figure.numbers)):
                for sign in (1.0, -1.0):
                    moved = figure.numbers.copy()
                    moved[place] += sign * step * _SCALES[place]
                    cost = self.cost(Figure(moved))
                    if cost < best:
                        best, figure = cost, Figure(moved)
                        break
        return figure
