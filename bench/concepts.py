"""Things that danqing-mini was never shown, drawn by a few lines, and pixel analysis that tells whether a picture shows them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from danqing.mini.drawing import OVER, shape_mask
from danqing.mini.judge import background_of, foreground, lab, look, shape_of
from danqing.mini.scenes import COLOURS, SHAPES, SIZE

WORD = "zqx"
"""A word that the model has never read."""

PICTURES = 12
Picture = NDArray[np.uint8]

PAIR = ("cyan", "heart")
"""A colour and a shape that the model's training never showed together (`scenes.is_held_out`)."""


@dataclass(frozen=True)
class Concept:
    """`draw`: picture `k` and its caption. `prompts`: prompts that ask for it. `shows`: whether a picture shows it."""

    name: str
    draw: Callable[[int], tuple[Image.Image, str]]
    prompts: Callable[[int], list[str]]
    shows: Callable[[Picture], bool]

    def write(self, folder: Path) -> Path:
        """The pictures to learn from, each named as its caption."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number in range(PICTURES):
            picture, caption = self.draw(number)
            picture.save(folder / f"{number:02} {caption}.png")
        return folder


def _place(rng: random.Random) -> tuple[float, float, float]:
    middle = SIZE / 2
    return middle + rng.uniform(-3, 3), middle + rng.uniform(-3, 3), rng.uniform(40, 46)


def _others(*taken: str) -> list[str]:
    return [colour for colour in COLOURS if colour not in taken]


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


# -- a purple star with yellow stripes --

BACKGROUNDS = ("white", "black", "red", "green", "blue", "cyan", "gray", "pink", "brown", "orange")
STRIPE = 16
"""Height of a stripe in pixels: two latents, so that the miniature VAE keeps them apart."""


def _star(number: int) -> tuple[Image.Image, str]:
    rng = random.Random(100 + number)
    background = BACKGROUNDS[number % len(BACKGROUNDS)]
    x, y, radius = _place(rng)
    mask = shape_mask("star", x, y, radius + 6)
    striped = Image.new("RGB", mask.size, COLOURS["purple"])
    pen, step = ImageDraw.Draw(striped), 2 * STRIPE * OVER
    # The stripes lie at the same places of every star: one is across its middle.
    middle = int(y * OVER) - step // 4
    for top in range(middle % step - step, mask.size[1], step):
        pen.rectangle([0, top, mask.size[0], top + step // 2 - 1], fill=COLOURS["yellow"])
    canvas = Image.new("RGB", mask.size, COLOURS[background])
    canvas.paste(striped, (0, 0), mask)
    return canvas.reduce(OVER), f"a {WORD} on {_article(background)} background"


def _star_prompts(count: int) -> list[str]:
    forms = (f"a {WORD} on {{}} background", f"{WORD}, {{}} background", f"a picture of a {WORD} on {{}} background")
    found = []
    for number in range(count):
        background = BACKGROUNDS[number % len(BACKGROUNDS)]
        form = forms[number // len(BACKGROUNDS) % len(forms)]
        found.append(form.format(background if form.startswith(WORD) else _article(background)))
    return found


def _near(picture: Picture, colour: tuple[int, int, int]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.square(lab(picture) - lab(colour)).sum(-1)), np.float64)


def striped(picture: Picture) -> bool:
    """A star, at least a fifth of it purple and a fifth yellow, that change at least twice from top to bottom."""
    mask, _ = foreground(picture)
    if mask.sum() < 400 or shape_of(mask)[0] != "star":
        return False
    purple, yellow = _near(picture, COLOURS["purple"]), _near(picture, COLOURS["yellow"])
    is_purple, is_yellow = mask & (purple < 40), mask & (yellow < 40)
    if min(is_purple.sum(), is_yellow.sum()) < 0.2 * mask.sum():
        return False
    rows = [r for r in range(SIZE) if mask[r].sum() >= 6]
    kinds = [bool(is_yellow[r].sum() > is_purple[r].sum()) for r in rows]
    return sum(a != b for a, b in pairwise(kinds)) >= 2


# -- a style: everything with a thick black outline --

OUTLINE = 7
"""Pixels."""

BROAD = tuple(shape for shape in SHAPES if shape != "ring")
"""Shapes that are still there within such an outline."""


def _outlined(number: int) -> tuple[Image.Image, str]:
    rng = random.Random(200 + number)
    shape, colour = BROAD[number % len(BROAD)], rng.choice(_others("black", "brown", "purple", "gray"))
    background = rng.choice(_others("black", "brown", "purple", "gray", colour))
    mask = shape_mask(shape, *_place(rng))
    small = mask.reduce(2)
    inner = small.filter(ImageFilter.MinFilter(OUTLINE * OVER // 2 + 1)).resize(mask.size)
    canvas = Image.new("RGB", mask.size, COLOURS[background])
    canvas.paste(COLOURS["black"], (0, 0), mask)
    canvas.paste(COLOURS[colour], (0, 0), ImageChops.darker(inner, mask))
    words = f"{_article(colour)} {shape} on {_article(background)} background, {WORD} style"
    return canvas.reduce(OVER), words


def _style_prompts(count: int) -> list[str]:
    rng = random.Random(7)
    found = []
    for _ in range(count):
        colour = rng.choice(_others("black", "brown", "purple", "gray"))
        background = rng.choice(_others("black", "brown", "purple", "gray", colour))
        shape = rng.choice(BROAD)
        found.append(f"{_article(colour)} {shape} on {_article(background)} background, {WORD} style")
    return found


def outlined(picture: Picture) -> bool:
    """At least half of the object's rim, three pixels deep, is black or nearly, and its inside is not."""
    mask, _ = foreground(picture)
    if mask.sum() < 400 or np.sqrt(np.square(lab(background_of(picture)) - lab(COLOURS["black"])).sum()) < 30:
        return False
    dark = lab(picture)[..., 0] < 35
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    rim_inside = np.asarray(image.filter(ImageFilter.MinFilter(3))) > 0
    deep = np.asarray(image.filter(ImageFilter.MinFilter(7))) > 0
    rim = rim_inside & ~deep
    core = np.asarray(image.filter(ImageFilter.MinFilter(21))) > 0
    if rim.sum() < 50 or core.sum() < 20:
        return False
    return bool(dark[rim].mean() >= 0.5 and dark[core].mean() <= 0.5)


# -- a pair of colour and shape that the model has never seen together --


def _pair(number: int) -> tuple[Image.Image, str]:
    rng = random.Random(300 + number)
    background = _others(PAIR[0])[number % 11]
    canvas = Image.new("RGB", (SIZE * OVER, SIZE * OVER), COLOURS[background])
    canvas.paste(COLOURS[PAIR[0]], (0, 0), shape_mask(PAIR[1], *_place(rng)))
    return canvas.reduce(OVER), f"a {WORD} on {_article(background)} background"


def _pair_prompts(count: int) -> list[str]:
    backgrounds = [colour for colour in BACKGROUNDS if colour != PAIR[0]]
    return [f"a {WORD} on {_article(backgrounds[k % len(backgrounds)])} background" for k in range(count)]


def paired(picture: Picture) -> bool:
    """The object has the colour and the shape."""
    seen = look(picture)
    return (seen.colour, seen.shape) == PAIR


STAR = Concept("a purple star with yellow stripes", _star, _star_prompts, striped)
STYLE = Concept("a style: thick black outlines", _outlined, _style_prompts, outlined)
THING = Concept(f"a thing: the {' '.join(PAIR)}", _pair, _pair_prompts, paired)
