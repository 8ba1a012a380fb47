"""Prompt matrix: the first part of a prompt with every combination of its other parts (spec 18)."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from danqing.engine.calls import Call, Plan
from danqing.engine.plans import hand_out
from danqing.engine.scripts.darkroom import alone, drawn_all, image_of, sheet
from danqing.imaging import grid
from danqing.request import GenerateRequest, Script

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio

SEPARATOR = "|"
JOINERS = {"comma": ", ", "space": " "}


def combinations(text: str, delimiter: str, put_at_start: bool) -> list[str]:
    """All 2^(n - 1) prompts: bit i of the number says whether part i + 1 is in."""
    first, *others = text.split(SEPARATOR)
    found = []
    for number in range(1 << len(others)):
        chosen = [part.strip().strip(",") for i, part in enumerate(others) if number & (1 << i)]
        parts = [*chosen, first] if put_at_start else [first, *chosen]
        found.append(JOINERS[delimiter].join(parts))
    return found


def requests(request: GenerateRequest, args: dict[str, Any]) -> list[GenerateRequest]:
    """One picture for each combination; the last batch is filled as far as it goes."""
    field = "prompt" if args["prompt_type"] == "positive" else "negative_prompt"
    texts = combinations(getattr(request, field), args["delimiter"], args["put_at_start"])
    # Pictures with one seed are told apart by the variation's, which counts on as in any job.
    step = 1 if args["different_seeds"] else 0
    return [
        alone(
            request, seed=request.seed + step * i, subseed=request.subseed + i, batch_size=1, n_iter=1, **{field: text}
        )
        for i, text in enumerate(texts)
    ]


def run(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """The pictures behind a sheet with a legend."""
    args = script.args
    wanted = requests(request, args)
    drawn = [found[0] for found in (yield from drawn_all(wanted, studio)) if found]
    if not drawn:
        return
    for place, (one, asked) in enumerate(zip(drawn, wanted, strict=False), 1):
        yield from hand_out(one, place, asked)
    yield from _legend(request, args, drawn, wanted[0])


def _legend(
    request: GenerateRequest, args: dict[str, Any], drawn: list[Any], first: GenerateRequest
) -> Generator[Call, Any, None]:
    text = request.prompt if args["prompt_type"] == "positive" else request.negative_prompt
    others = [part.strip(" ,") for part in text.split(SEPARATOR)[1:]]
    across = others[: math.ceil(len(others) / 2)]
    down = others[len(across) :]
    images = [image_of(one) for one in drawn]
    whole = grid.image_grid(images, 1 << len(down))
    top, left = _labels(across), _labels(down)
    whole = grid.annotated(whole, images[0].size, top, left, args["margin_size"])
    yield sheet(whole, drawn[0].facts, 0, first)


def _labels(parts: list[str]) -> list[list[grid.Label]]:
    return [
        [grid.Label(part, bool(number & (1 << i))) for i, part in enumerate(parts)] for number in range(1 << len(parts))
    ]
