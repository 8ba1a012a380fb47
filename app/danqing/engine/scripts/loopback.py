"""Loopback: each picture is the next one's input, while the strength moves to another (spec 18)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from danqing.engine import interrogators
from danqing.engine.calls import Plan, Work
from danqing.engine.plans import Drawn, picture
from danqing.engine.scripts.darkroom import alone, image_of, sheet, with_pairs
from danqing.errors import DanqingError
from danqing.imaging import grid
from danqing.request import GenerateRequest, Script

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio

FILL_ORIGINAL = 1


def strength(initial: float, final: float, loop: int, loops: int, curve: str) -> float:
    """The denoising strength of a loop, counted from 0."""
    if loops == 1:
        return initial
    progress = loop / (loops - 1)
    shaped = {
        "Aggressive": math.sin(progress * math.pi / 2),
        "Lazy": 1 - math.cos(progress * math.pi / 2),
    }.get(curve, progress)
    return initial + (final - initial) * shaped


def pictures(request: GenerateRequest, args: dict[str, Any]) -> int:
    """How many there will be, sheets included."""
    loops = int(args["loops"])
    return request.n_iter * (loops + (loops > 1))


def run(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """For every run a sheet of its loops, then the loops, in the order of the runs.

    Raises:
        DanqingError: `missing_picture`; `interrogator_missing`, where the prompt is to grow by what is seen in each input.
    """
    args = script.args
    seer = next((row.name for row in interrogators.ROWS if row.label == args["append_interrogation"]), "")
    if seer:
        interrogators.check(studio.data, seer)
    if not request.init_images:
        raise DanqingError("missing_picture", field="init_images")
    loops, seed = int(args["loops"]), request.seed
    sheets, done = request.n_iter if loops > 1 else 0, 0
    initial = 0.75 if request.denoising_strength is None else request.denoising_strength
    pairs: dict[str, str | int | float] = {
        "Final denoising strength": args["final_denoising_strength"],
        "Denoising curve": args["curve"],
    }
    for turn in range(request.n_iter):
        history: list[Drawn] = []
        inputs, inpaint = request.init_images[:1], request.inpaint
        for loop in range(loops):
            now = strength(initial, args["final_denoising_strength"], loop, loops, args["curve"])
            prompt = request.prompt
            if seer:
                seen: str = yield Work(partial(_seen, studio, inputs[0], seer))
                prompt = ", ".join(filter(None, (request.prompt, seen)))
            asked = alone(
                request,
                prompt=prompt,
                n_iter=1,
                batch_size=1,
                seed=seed,
                init_images=inputs,
                denoising_strength=now,
                inpaint=inpaint,
            )
            one: Drawn = yield from picture(asked, 0, studio, track)
            one.facts = with_pairs(one.facts, pairs)
            history.append(one)
            track.skipped = False
            yield from _shown(one, sheets + done, asked)
            done, seed = done + 1, seed + 1
            inputs = (studio.hold(image_of(one)),)
            if inpaint is not None:  # what was painted is what is painted over
                inpaint = inpaint.model_copy(update={"fill": FILL_ORIGINAL})
            if track.interrupted:
                break
        if len(history) > 1:
            yield sheet(grid.image_grid([image_of(one) for one in history], 1), history[0].facts, turn, request)
        if track.interrupted:
            return


def _seen(studio: Studio, image: str, name: str) -> str:
    """What an interrogator sees in an input picture, on the CPU: the device draws meanwhile."""
    from danqing.engine.interrogate import Interrogators

    return Interrogators(studio.data).ask(studio.image(image), name, interrogators.Manner())


def _shown(one: Drawn, index: int, asked: GenerateRequest) -> Plan:
    from danqing.engine.calls import Finished

    yield Finished(one.pixels, one.facts, one.changed or asked, index)
