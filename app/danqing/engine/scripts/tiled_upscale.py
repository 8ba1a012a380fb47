"""SD upscale: the picture enlarged, cut into tiles, each drawn over, and put together again (spec 18)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine.calls import Finished, Plan, Work
from danqing.engine.enlarging import enlarged
from danqing.engine.scripts.darkroom import alone, drawn_all, image_of, tiles_of, with_pairs
from danqing.errors import DanqingError
from danqing.imaging import resize, tiles
from danqing.request import GenerateRequest, Script

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio

MULTIPLE = 8
MOST_PIXELS = 2**27
"""Of the enlarged picture, as of one that extras make."""


def pictures(request: GenerateRequest, args: dict[str, Any]) -> int:
    """One for every run."""
    return request.n_iter


def run(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """One picture for each of `n_iter` runs, whose seed is one more each."""
    args = script.args
    if not request.init_images:
        raise DanqingError("missing_picture", field="init_images")
    image = resize.flattened(studio.image(request.init_images[0]), request.options.img2img_background_color)
    pairs: dict[str, str | int | float] = {
        "SD upscale overlap": args["overlap"],
        "SD upscale upscaler": args["upscaler"],
    }
    if args["upscaler"] != "None":
        width, height = (int(side * args["scale"]) // MULTIPLE * MULTIPLE for side in image.size)
        if width * height > MOST_PIXELS:
            raise DanqingError("too_many_pixels", width=width, height=height, maximum=MOST_PIXELS)
        pixels = yield from enlarged(studio, request.options, args["upscaler"], np.asarray(image), width, height)
        image = Image.fromarray(pixels)
    plan = tiles_of(image.size, (request.width, request.height), args["overlap"])
    cut = tiles.split(image, plan)
    names = [studio.hold(tile) for tile in cut]
    size = request.batch_size
    for turn in range(request.n_iter):
        # The seed grows by one with every batch of tiles; the tiles of a batch count on from it.
        asked = [
            alone(
                request,
                n_iter=1,
                batch_size=1,
                seed=request.seed + turn + place // size + place % size,
                init_images=(name,),
            )
            for place, name in enumerate(names)
        ]
        drawn = [found[0] for found in (yield from drawn_all(asked, studio)) if found]
        if len(drawn) < len(cut):
            return
        whole: Image.Image = yield Work(partial(tiles.combine, [image_of(one) for one in drawn], plan))
        facts = replace(drawn[0].facts, width=whole.width, height=whole.height)
        yield Finished(np.asarray(whole), with_pairs(facts, pairs), asked[0], turn)
