"""The world of danqing-mini: what a scene is made of and how scenes are drawn at random.

A scene is a plain record with exact ground truth (colours, kinds, places, key points); `drawing`
turns it into pixels and `captions` into words. Everything is a function of a seeded generator, so a
cached picture needs only its stage and seed to get its scene back.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from danqing.mini.poses import POSES, Point, person_points

SIZE = 128
"""Side of a picture in pixels; coordinates of scenes are in these pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 40),
    "green": (45, 165, 70),
    "blue": (50, 95, 225),
    "purple": (140, 60, 190),
    "pink": (250, 145, 195),
    "brown": (130, 80, 45),
    "black": (25, 25, 28),
    "white": (248, 248, 248),
    "gray": (140, 140, 145),
    "cyan": (60, 205, 220),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon", "diamond")
THINGS = ("house", "tree", "flower", "cat")
PLACES: dict[str, tuple[int, int]] = {
    "center": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
"""Place name -> column and row, each -1, 0 or 1."""

RADII = {"small": (15.0, 19.0), "medium": (24.0, 30.0), "large": (38.0, 47.0)}
# Colours that a thing has besides its own, so that no background swallows its stem.
_PARTS = {"flower": ("green",), "tree": ("brown",), "cat": ("pink",)}
STAGES = ("one", "places", "pairs", "people", "things")
"""Steps of the curriculum, in the order in which they are learned."""


@dataclass(frozen=True)
class Thing:
    """One drawn object: centre and radius in pixels, `colour` of its main part, `near` 0 (far) to 1 (near)."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float
    size: str = "medium"
    place: str = "center"
    pose: str = ""
    points: tuple[Point, ...] = ()
    skin: int = 0
    near: float = 0.5


@dataclass(frozen=True)
class Scene:
    """A background and one or two objects; `relation` is "", "left" or "above" (first to second)."""

    background: str
    things: tuple[Thing, ...] = field(default_factory=tuple)
    relation: str = ""


def is_held_out(colour: str, kind: str) -> bool:
    """Whether training never shows this pair: one shape for every colour, spread over the shapes."""
    if kind not in SHAPES:
        return False
    return (list(COLOURS).index(colour) + 4 * SHAPES.index(kind)) % len(SHAPES) == 0


def pairs(held_out: bool) -> list[tuple[str, str]]:
    """All (colour, shape) pairs that are, or are not, held out."""
    return [(c, s) for c in COLOURS for s in SHAPES if is_held_out(c, s) == held_out]


def sample_scene(stage: str, rng: random.Random, held_out: bool = False) -> Scene:
    """Draw a scene of one stage; `held_out` draws shapes from the pairs training never shows."""
    if stage == "pairs":
        return _two_things(rng, held_out)
    if stage == "people":
        return _person(rng)
    if stage == "things":
        kind, colour = rng.choice(THINGS), rng.choice(list(COLOURS))
        return _alone(kind, colour, rng, rng.choice(("medium", "large", "large")))
    colour, kind = rng.choice(pairs(held_out))
    size = "large" if stage == "one" else rng.choice(("small", "small", "medium", "large"))
    return _alone(kind, colour, rng, size)


def _alone(kind: str, colour: str, rng: random.Random, size: str) -> Scene:
    """One object; large ones stay near the middle, the others go to any of nine places."""
    place = "center" if size == "large" else rng.choice(list(PLACES))
    thing = place_thing(kind, colour, rng, size, place)
    return Scene(background_beside({colour, *_PARTS.get(kind, ())}, rng), (thing,))


def place_thing(kind: str, colour: str, rng: random.Random, size: str, place: str) -> Thing:
    """Put an object of a named size at a named place, with a little play."""
    radius = rng.uniform(*RADII[size])
    column, row = PLACES[place]
    reach = SIZE / 2 - radius - 7
    x = SIZE / 2 + column * reach + rng.uniform(-4, 4)
    y = SIZE / 2 + row * reach + rng.uniform(-4, 4)
    return Thing(kind, colour, x, y, radius, size, place)


def _two_things(rng: random.Random, held_out: bool) -> Scene:
    """Two shapes of different colours, side by side or one above the other."""
    first, second = rng.choice(pairs(held_out)), rng.choice(pairs(held_out))
    while first[0] == second[0]:
        second = rng.choice(pairs(held_out))
    relation = rng.choice(("left", "left", "above"))
    things = tuple(_half(pair, relation, side, rng) for side, pair in enumerate((first, second)))
    return Scene(background_beside({first[0], second[0]}, rng), things, relation)


def _half(pair: tuple[str, str], relation: str, side: int, rng: random.Random) -> Thing:
    """The object of one half of the picture: side 0 is left or above."""
    along = SIZE * (0.26 if side == 0 else 0.74) + rng.uniform(-2, 2)
    across = SIZE / 2 + rng.uniform(-5, 5)
    x, y = (along, across) if relation == "left" else (across, along)
    return Thing(pair[1], pair[0], x, y, rng.uniform(22, 27))


def _person(rng: random.Random) -> Scene:
    """A whole figure in a coloured shirt, large, in one of the known poses."""
    pose, colour = rng.choice(POSES), rng.choice(list(COLOURS))
    x, y = SIZE / 2 + rng.uniform(-4, 4), SIZE / 2 + rng.uniform(-2, 2)
    radius = rng.uniform(49, 53)
    points = person_points(pose, rng)
    thing = Thing("person", colour, x, y, radius, "large", "center", pose, points, rng.randrange(3))
    # The trousers are dark blue, and the skin is near orange and brown: those would hide a limb.
    return Scene(background_beside({colour, "black", "brown", "orange"}, rng), (thing,))


def background_beside(taken: set[str], rng: random.Random) -> str:
    """A background colour that is not one of `taken`."""
    return rng.choice([colour for colour in COLOURS if colour not in taken])


def mixed_stage(weights: Sequence[float], rng: random.Random) -> str:
    """A stage drawn with the given weights, in the order of STAGES."""
    return rng.choices(STAGES, weights)[0]
