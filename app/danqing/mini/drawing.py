"""Scenes into pixels: flat colours and smooth edges, drawn four times too large and averaged down."""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from danqing.mini.poses import Point
from danqing.mini.scenes import COLOURS, SHAPES, SIZE, Scene, Thing

OVER = 4
"""Supersampling factor."""

FIGURE = 2.05
"""Height of a person in units of the radius of its scene record."""

Colour = tuple[int, int, int]
SKINS: tuple[tuple[Colour, Colour], ...] = (
    ((245, 205, 170), (40, 30, 25)),
    ((225, 170, 130), (120, 75, 35)),
    ((150, 100, 70), (40, 30, 25)),
)
TROUSERS: Colour = (45, 55, 95)


def render(scene: Scene, rng: random.Random) -> NDArray[np.uint8]:
    """Draw a scene: uint8 array (SIZE, SIZE, 3). The generator moves colours by a hair only."""
    canvas = Image.new("RGB", (SIZE * OVER, SIZE * OVER), _near(scene.background, rng))
    colours = [_near(thing.colour, rng) for thing in scene.things]
    for thing, colour in sorted(zip(scene.things, colours, strict=True), key=lambda pair: pair[0].near):
        _draw(canvas, thing, colour)
    return np.asarray(canvas.reduce(OVER))


def thing_mask(thing: Thing) -> NDArray[np.float32]:
    """How much of every pixel an object covers, whatever lies before it: float32 (SIZE, SIZE), 0 to 1."""
    if thing.kind in SHAPES:
        return np.asarray(shape_mask(thing.kind, thing.x, thing.y, thing.radius).reduce(OVER), np.float32) / np.float32(
            255
        )
    canvases = []
    # No part of an object has either colour: what both canvases keep is not covered.
    for key in ((255, 0, 255), (0, 255, 0)):
        canvas = Image.new("RGB", (SIZE * OVER, SIZE * OVER), key)
        _draw(canvas, thing, COLOURS[thing.colour])
        canvases.append((np.asarray(canvas) != key).any(-1))
    covered = (canvases[0] & canvases[1]).reshape(SIZE, OVER, SIZE, OVER)
    return np.asarray(covered.mean((1, 3)), np.float32)


def shape_mask(kind: str, x: float, y: float, radius: float, size: int = SIZE) -> Image.Image:
    """An "L" mask (0 or 255) of a shape, OVER times as large as `size`."""
    mask = Image.new("L", (size * OVER, size * OVER), 0)
    pen = ImageDraw.Draw(mask)
    x, y, radius = x * OVER, y * OVER, radius * OVER
    if kind == "circle":
        _disc(pen, x, y, radius, 255)
    elif kind == "ring":
        _disc(pen, x, y, radius, 255)
        _disc(pen, x, y, 0.52 * radius, 0)
    elif kind == "moon":
        _disc(pen, x, y, radius, 255)
        _disc(pen, x + 0.5 * radius, y - 0.12 * radius, 0.8 * radius, 0)
    else:
        pen.polygon([(x + a * radius, y + b * radius) for a, b in _OUTLINES[kind]], fill=255)
    return mask


def _near(name: str, rng: random.Random) -> Colour:
    red, green, blue = (min(255, max(0, value + rng.randint(-4, 4))) for value in COLOURS[name])
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(value * factor) for value in colour)
    return red, green, blue


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int | Colour) -> None:
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def _polygon(count: int, radius: float, y: float = 0.0, inner: float = 0.0) -> list[Point]:
    """A regular polygon with a corner on top, or a star where `inner` is a radius."""
    radii = [radius, inner] if inner else [radius]
    total = count * len(radii)
    angles = [2 * math.pi * k / total - math.pi / 2 for k in range(total)]
    return [
        (radii[k % len(radii)] * math.cos(a), y + radii[k % len(radii)] * math.sin(a)) for k, a in enumerate(angles)
    ]


def _heart() -> list[Point]:
    angles = [2 * math.pi * k / 72 for k in range(72)]
    across = [1.05 * math.sin(a) ** 3 for a in angles]
    down = [13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a) for a in angles]
    return [(x, -1.05 * y / 16 - 0.1) for x, y in zip(across, down, strict=True)]


def _cross() -> list[Point]:
    a, b = 1.0, 0.34
    corner = [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b)]
    return corner + [(-x, -y) for x, y in corner]


_OUTLINES: dict[str, list[Point]] = {
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0.0, -1.0), (1.1, 0.9), (-1.1, 0.9)],
    "diamond": [(0.0, -1.15), (0.8, 0.0), (0.0, 1.15), (-0.8, 0.0)],
    "star": _polygon(5, 1.14, 0.06, 0.46),
    "heart": _heart(),
    "cross": _cross(),
}


def _draw(canvas: Image.Image, thing: Thing, colour: Colour) -> None:
    if thing.kind in SHAPES:
        canvas.paste(colour, (0, 0), shape_mask(thing.kind, thing.x, thing.y, thing.radius))
    elif thing.kind == "person":
        _Figure(canvas, thing).draw(colour)
    else:
        _DRAWERS[thing.kind](_Pen(canvas, thing), colour)


class _Pen:
    """Draws in units of an object's radius around its centre."""

    def __init__(self, canvas: Image.Image, thing: Thing) -> None:
        self.pen = ImageDraw.Draw(canvas)
        self.x, self.y, self.unit = thing.x * OVER, thing.y * OVER, thing.radius * OVER

    def at(self, x: float, y: float) -> Point:
        return self.x + x * self.unit, self.y + y * self.unit

    def oval(self, x: float, y: float, wide: float, high: float, fill: Colour) -> None:
        self.pen.ellipse([self.at(x - wide, y - high), self.at(x + wide, y + high)], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        self.pen.rectangle([self.at(left, top), self.at(right, bottom)], fill=fill)

    def poly(self, points: list[Point], fill: Colour) -> None:
        self.pen.polygon([self.at(x, y) for x, y in points], fill=fill)


def _house(pen: _Pen, colour: Colour) -> None:
    pen.box(-0.75, -0.15, 0.75, 0.95, colour)
    pen.poly([(-1, -0.12), (0, -1), (1, -0.12)], _shade(colour, 0.55))
    pen.box(-0.2, 0.3, 0.2, 0.95, (90, 60, 40))
    for x in (-0.48, 0.48):
        pen.box(x - 0.15, 0.05, x + 0.15, 0.35, (190, 225, 250))


def _tree(pen: _Pen, colour: Colour) -> None:
    pen.box(-0.15, 0.3, 0.15, 1, (115, 75, 45))
    for x, y, size in ((0, -0.45, 0.55), (-0.42, -0.02, 0.46), (0.42, -0.02, 0.46), (0, 0.05, 0.5)):
        pen.oval(x, y, size, size, colour)


def _flower(pen: _Pen, colour: Colour) -> None:
    pen.box(-0.07, 0, 0.07, 1, (50, 140, 60))
    pen.oval(0.25, 0.65, 0.22, 0.11, (50, 140, 60))
    for k in range(6):
        angle = k * math.pi / 3
        pen.oval(0.38 * math.cos(angle), -0.35 + 0.38 * math.sin(angle), 0.27, 0.27, colour)
    yellow = colour[0] > 200 and colour[2] < 120 < colour[1]
    pen.oval(0, -0.35, 0.24, 0.24, (150, 90, 40) if yellow else (250, 205, 50))


def _cat(pen: _Pen, colour: Colour) -> None:
    eyes: Colour = (30, 30, 30) if sum(colour) > 220 else (240, 240, 120)
    for side in (-1, 1):
        pen.poly([(side * 0.85, -1), (side * 0.88, -0.1), (side * 0.2, -0.6)], colour)
    pen.oval(0, 0.1, 0.9, 0.78, colour)
    for side in (-1, 1):
        pen.oval(side * 0.36, -0.03, 0.14, 0.18, eyes)
    pen.poly([(-0.13, 0.3), (0.13, 0.3), (0, 0.46)], (240, 130, 150))


_DRAWERS = {"house": _house, "tree": _tree, "flower": _flower, "cat": _cat}


class _Figure:
    """A person of thick limbs over its key points."""

    def __init__(self, canvas: Image.Image, thing: Thing) -> None:
        self.pen = ImageDraw.Draw(canvas)
        self.height = FIGURE * thing.radius * OVER
        self.points = [(thing.x * OVER + x * self.height, thing.y * OVER + y * self.height) for x, y in thing.points]
        self.skin, self.hair = SKINS[thing.skin]

    def draw(self, shirt: Colour) -> None:
        for joints in ((8, 9, 10), (11, 12, 13)):
            self._limb(joints, 0.095, TROUSERS)
        self.pen.polygon([self.points[k] for k in (2, 5, 11, 8)], fill=shirt)
        self._limb((8, 11), 0.06, TROUSERS)
        self._limb((2, 5), 0.08, shirt)
        for joints in ((2, 3, 4), (5, 6, 7)):
            self._limb(joints, 0.08, shirt)
            _disc(self.pen, *self.points[joints[-1]], 0.05 * self.height, self.skin)
        self._head()

    def _limb(self, joints: tuple[int, ...], width: float, fill: Colour) -> None:
        places = [self.points[k] for k in joints]
        self.pen.line(places, fill=fill, width=int(width * self.height))
        for x, y in places:
            _disc(self.pen, x, y, width * self.height / 2, fill)

    def _head(self) -> None:
        (x, y), unit = self.points[0], 0.1 * self.height
        _disc(self.pen, x, y, unit, self.skin)
        self.pen.pieslice([x - unit, y - 1.1 * unit, x + unit, y + 0.7 * unit], 180, 360, fill=self.hair)
        for side in (-1, 1):
            _disc(self.pen, x + side * 0.38 * unit, y + 0.1 * unit, 0.15 * unit, (30, 30, 30))
