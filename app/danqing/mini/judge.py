"""What does a picture show? Pixel analysis with exact palettes and templates, no network.

`tests/mini` holds the judge to its word: nearly always right on true renders, at chance on pictures
that belong to other captions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.mini.drawing import FIGURE, render, shape_mask
from danqing.mini.poses import POSES, person_points
from danqing.mini.scenes import COLOURS, PLACES, SHAPES, SIZE, Scene, Thing

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DIFFERENT = 20.0
"""Distance in Lab from the background that makes a pixel part of an object."""

_SIDE = 48
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


@dataclass(frozen=True)
class Seen:
    """One object as the judge sees it: centre of its bounding box; `colour` and `shape` are "" for none."""

    colour: str = ""
    shape: str = ""
    match: float = 0.0
    x: float = SIZE / 2
    y: float = SIZE / 2


def lab(colours: object) -> Floats:
    """sRGB values 0..255 (..., 3) in CIE Lab."""
    values = np.asarray(colours, np.float64) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ _XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    parts = [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]
    return np.stack(parts, -1)


_NAMES = list(COLOURS)
_PALETTE = lab(list(COLOURS.values()))


def colour_name(colour: object) -> str:
    """The nearest of the named colours."""
    return _NAMES[int(np.square(_PALETTE - lab(colour)).sum(-1).argmin())]


def background_of(picture: NDArray[np.uint8]) -> Floats:
    """Median colour of the picture's rim, four pixels wide."""
    rim = np.ones(picture.shape[:2], bool)
    rim[4:-4, 4:-4] = False
    return np.asarray(np.median(picture[rim], 0), np.float64)


def foreground(picture: NDArray[np.uint8]) -> tuple[Bools, Floats]:
    """Mask of what differs from the background, and by how much."""
    distance = np.sqrt(np.square(lab(picture) - lab(background_of(picture))).sum(-1))
    return distance > DIFFERENT, distance


def look(picture: NDArray[np.uint8], window: tuple[slice, slice] | None = None) -> Seen:
    """The object of a picture, or of one window of it."""
    mask, distance = foreground(picture)
    if window is not None:
        inside = np.zeros_like(mask)
        inside[window] = True
        mask &= inside
    if mask.sum() < 25:
        return Seen()
    rows, columns = np.nonzero(mask)
    # Pixels on the rim are mixtures; the far ones from the background are the object's own colour.
    core = mask & (distance >= 0.85 * np.median(distance[mask]))
    shape, match = shape_of(mask)
    colour = colour_name(np.median(picture[core], 0))
    x, y = (float(v.min() + v.max()) / 2 for v in (columns, rows))
    return Seen(colour, shape, match, x, y)


def shape_of(mask: Bools) -> tuple[str, float]:
    """The shape whose template fits best, and how well: overlap over union times likeness of proportions."""
    box, proportion = _boxed(mask)
    best = ("", 0.0)
    for shape, (template, ideal) in _templates().items():
        overlap = float((box & template).sum() / max(1, (box | template).sum()))
        fit = overlap * float(np.exp(-abs(np.log(proportion / ideal))))
        best = max(best, (shape, fit), key=lambda pair: pair[1])
    return best


def _boxed(mask: Bools) -> tuple[Bools, float]:
    """A mask's bounding box stretched to a square, and width over height."""
    rows, columns = np.nonzero(mask)
    part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    picture = Image.fromarray(part.astype(np.uint8) * 255).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture) > 127, part.shape[1] / part.shape[0]


@cache
def _templates() -> dict[str, tuple[Bools, float]]:
    masks = {shape: np.asarray(shape_mask(shape, 64, 64, 40).reduce(4)) > 127 for shape in SHAPES}
    return {shape: _boxed(mask) for shape, mask in masks.items()}


def place_of(seen: Seen) -> str:
    """The nearest of the nine places, by thirds."""
    column, row = (-1 if v < 0.40 * SIZE else 1 if v > 0.60 * SIZE else 0 for v in (seen.x, seen.y))
    return next(name for name, cell in PLACES.items() if cell == (column, row))


def pose_of(picture: NDArray[np.uint8]) -> str:
    """The pose whose limbs cover the figure best: overlap over union with drawn figures."""
    mask, _ = foreground(picture)
    if mask.sum() < 25:
        return ""
    box = _silhouette(mask)
    fits = [(float((box & t).sum() / max(1, (box | t).sum())), pose) for pose, t in _figures()]
    return max(fits)[1]


def _silhouette(mask: Bools) -> Bools:
    """The figure moved to a fixed place: feet at the bottom row, middle of its trunk in the middle column."""
    rows, columns = np.nonzero(mask)
    shift = (SIZE - 1 - rows.max(), SIZE // 2 - int(np.median(columns)))
    return np.roll(mask, shift, (0, 1))


@cache
def _figures() -> list[tuple[str, Bools]]:
    """Silhouettes of every pose in a few sizes, waves to both sides."""
    found = []
    for pose in POSES:
        for seed in range(8):
            rng = random.Random(seed)
            points = person_points(pose, rng)
            thing = Thing("person", "white", 64, 64, 48.0 + 6 * (seed % 4) / 3, points=points, pose=pose)
            mask, _ = foreground(render(Scene("pink", (thing,)), rng))
            found.append((pose, _silhouette(mask)))
    return found


@dataclass(frozen=True)
class Verdict:
    """Right or wrong for everything a scene states."""

    background: bool
    colour: bool
    shape: bool
    place: bool
    pose: bool

    @property
    def all(self) -> bool:
        """Everything is right."""
        return self.background and self.colour and self.shape and self.place and self.pose


def halves(relation: str) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The windows of the first and the second of two objects."""
    whole, first, second = slice(None), slice(0, SIZE // 2), slice(SIZE // 2, None)
    return ((whole, first), (whole, second)) if relation == "left" else ((first, whole), (second, whole))


def judge(picture: NDArray[np.uint8], scene: Scene) -> Verdict:
    """Compare a picture (SIZE, SIZE, 3) with the scene it should show."""
    background = colour_name(background_of(picture)) == scene.background
    if scene.relation:
        seen = [look(picture, window) for window in halves(scene.relation)]
        pairs = list(zip(seen, scene.things, strict=True))
        colour = all(s.colour == t.colour for s, t in pairs)
        shape = all(s.shape == t.kind for s, t in pairs)
        return Verdict(background, colour, shape, True, True)
    (thing,) = scene.things
    if thing.kind == "person":
        return _judge_person(picture, thing, background)
    seen_one = look(picture)
    shape = thing.kind not in SHAPES or seen_one.shape == thing.kind
    return Verdict(background, seen_one.colour == thing.colour, shape, place_of(seen_one) == thing.place, True)


def _judge_person(picture: NDArray[np.uint8], thing: Thing, background: bool) -> Verdict:
    """The shirt's colour is looked for between neck and hips, in the middle of the trunk."""
    mask, _ = foreground(picture)
    if mask.sum() < 25:
        return Verdict(background, False, True, True, False)
    rows, columns = np.nonzero(mask)
    middle, low = int(np.median(columns)), int(rows.max())
    height = FIGURE * thing.radius
    trunk = picture[int(low - 0.62 * height) : int(low - 0.5 * height), middle - 5 : middle + 6]
    colour = colour_name(np.median(trunk.reshape(-1, 3), 0)) == thing.colour if trunk.size else False
    return Verdict(background, colour, True, True, pose_of(picture) == thing.pose)
