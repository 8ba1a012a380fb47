"""What scripts share: drawing several requests, holding their pictures, handing them out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine import plans
from danqing.engine.calls import Call, Finished, Together, Track
from danqing.engine.plans import Drawn
from danqing.engine.protocol import ImageFacts
from danqing.engine.scripts.styling import styled
from danqing.errors import DanqingError
from danqing.imaging.tiles import Tiling, tiling
from danqing.request import GenerateRequest

if TYPE_CHECKING:
    from danqing.engine.studio import Studio

Pairs = dict[str, str | int | float]

MOST_TILES = 1024
"""Of one picture; each is drawn like a picture of its own."""


def alone(request: GenerateRequest, **changes: Any) -> GenerateRequest:
    """The request without its script, whose styles its prompts have then."""
    return styled(request.model_copy(update={"script": None, **changes}), request.script)


def with_pairs(facts: ImageFacts, pairs: Pairs) -> ImageFacts:
    """The facts with what a script tells before it draws: in the infotext it comes before what the drawing tells."""
    return replace(facts, extra={**pairs, **facts.extra})


def drawn_all(requests: Sequence[GenerateRequest], studio: Studio) -> Generator[Call, Any, list[list[Drawn]]]:
    """Every picture of every request, several at once; what an interruption left out is missing."""
    makers, calls = [], []
    for request in requests:
        each = plans.measure(request).calls
        for index in range(request.image_count):
            makers.append(partial(_maker, request, index, studio))
            calls.append(each)
    answers: list[Drawn | None] = yield Together(tuple(makers), tuple(calls))
    found, start = [], 0
    for request in requests:
        found.append([one for one in answers[start : start + request.image_count] if one is not None])
        start += request.image_count
    return found


def _maker(request: GenerateRequest, index: int, studio: Studio, track: Track) -> Generator[Call, Any, Drawn]:
    return plans.picture(request, index, studio, track)


def tiles_of(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> Tiling:
    """The tiles of a picture.

    Raises:
        DanqingError: `too_many_images`, as where the overlap leaves nearly nothing of a tile.
    """
    plan = tiling(size, tile, overlap)
    count = len(plan.lefts) * len(plan.tops)
    if count > MOST_TILES:
        raise DanqingError("too_many_images", count=count, maximum=MOST_TILES)
    return plan


def image_of(drawn: Drawn) -> Image.Image:
    return Image.fromarray(drawn.pixels)


def sheet(image: Image.Image, like: ImageFacts, index: int, request: GenerateRequest | None = None) -> Finished:
    """A grid, handed out at a place."""
    pixels = np.asarray(image.convert("RGB"))
    facts = replace(like, role="grid", width=image.width, height=image.height)
    return Finished(pixels, facts, request, index)
