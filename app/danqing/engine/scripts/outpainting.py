"""Outpainting: a picture grown at its sides, the new part continued from the old (spec 18)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from danqing.engine.calls import Finished, Plan, Work
from danqing.engine.plans import Drawn, picture
from danqing.engine.scripts.darkroom import alone, image_of, tiles_of
from danqing.engine.scripts.table import FILLS
from danqing.errors import DanqingError
from danqing.imaging import outpaint, resize, tiles
from danqing.imaging.outpaint import SIDES, Expansion
from danqing.request import GenerateRequest, Inpaint, Script

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio

BLUR_SCALE = 4
"""Of mk2: the mask is blurred that many times as far as the argument says."""

MOST_SIDE = 8192

FILL_NUMBERS: dict[str, Literal[0, 1, 2, 3]] = {FILLS[0]: 0, FILLS[1]: 1, FILLS[2]: 2, FILLS[3]: 3}


def pictures(request: GenerateRequest, args: dict[str, Any]) -> int:
    """One for every picture asked for."""
    return request.image_count


def _input(request: GenerateRequest, studio: Studio, grown: int) -> Image.Image:
    if not request.init_images:
        raise DanqingError("missing_picture", field="init_images")
    image = resize.flattened(studio.image(request.init_images[0]), request.options.img2img_background_color)
    if max(image.size) + 2 * grown > MOST_SIDE:
        raise DanqingError(
            "out_of_range", field="pixels", value=max(image.size) + 2 * grown, minimum=8, maximum=MOST_SIDE
        )
    return image


def mk2(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """One side after the other: left, right, up, down; the new part begins as noise shaped like the picture."""
    args = script.args
    start = _input(request, studio, args["pixels"])
    for turn in range(request.image_count):
        image, last = start, None
        for side in SIDES:
            if side not in args["direction"]:
                continue
            step: Expansion = yield Work(
                partial(
                    outpaint.expansion,
                    image,
                    side,
                    args["pixels"],
                    args["mask_blur"],
                    (request.width, request.height),
                    args["noise_q"],
                    args["color_variation"],
                )
            )
            blur = args["mask_blur"] * BLUR_SCALE
            across = side in ("left", "right")
            asked = alone(
                request,
                n_iter=1,
                batch_size=1,
                seed=request.seed + turn,
                width=step.picture.width,
                height=step.picture.height,
                init_images=(studio.hold(step.picture),),
                inpaint=Inpaint(
                    mask=studio.hold(step.mask),
                    latent_mask=studio.hold(step.latent_mask),
                    blur_x=blur if across else 0,
                    blur_y=0 if across else blur,
                    fill=1,
                ),
            )
            last = yield from picture(asked, 0, studio, track)
            image = step.finished(image_of(last))
            if track.interrupted:
                break
        if last is not None:
            facts = replace(last.facts, width=image.width, height=image.height)
            yield Finished(np.asarray(image), facts, alone(request, seed=request.seed + turn), turn)
        if track.interrupted:
            return


def poor_mans(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """The canvas grown at once, cut into tiles; those that touch something new are inpainted."""
    args = script.args
    image = _input(request, studio, args["pixels"])
    by = outpaint.margins(image.size, args["pixels"], tuple(args["direction"]))
    canvas, mask = outpaint.widened(image, by), outpaint.new_area(image.size, by)
    inset = args["mask_blur"] * 2
    latent_mask = outpaint.new_area(image.size, by, (inset // 2, inset // 2))
    width, height = min(request.width, canvas.width), min(request.height, canvas.height)
    plan = tiles_of(canvas.size, (width, height), args["pixels"])
    parts = [tiles.split(one, plan) for one in (canvas, mask, latent_mask)]
    for turn in range(request.image_count):
        seed, done = request.seed + turn, []
        last: Drawn | None = None
        for tile, over, latent in zip(*parts, strict=True):
            if over.getbbox() is None:
                done.append(tile)
                continue
            asked = alone(
                request,
                n_iter=1,
                batch_size=1,
                seed=seed,
                width=width,
                height=height,
                init_images=(studio.hold(tile),),
                inpaint=Inpaint(
                    mask=studio.hold(over),
                    latent_mask=studio.hold(latent),
                    blur_x=inset,
                    blur_y=inset,
                    fill=FILL_NUMBERS[args["inpainting_fill"]],
                ),
            )
            drawn: Drawn = yield from picture(asked, 0, studio, track)
            last = drawn
            done.append(image_of(drawn))
            seed += 1
            if track.interrupted:
                return
        if last is not None:
            whole: Image.Image = yield Work(partial(tiles.combine, done, plan))
            facts = replace(last.facts, width=whole.width, height=whole.height)
            yield Finished(np.asarray(whole), facts, alone(request, seed=request.seed + turn), turn)
