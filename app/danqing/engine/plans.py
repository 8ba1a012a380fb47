"""How a picture is drawn, as straight-line code that yields model calls.

A plan holds all of its state in local variables. It can be driven by hand with a fake model and dropped at any yield.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from danqing.engine import catalog, passes, plugged, told
from danqing.engine.calls import Call, Finished, Plan, Track
from danqing.engine.control_pass import maps_of
from danqing.engine.extras import extras
from danqing.engine.hires import second_pass, second_stage
from danqing.engine.image_to_image import Repainted, image_to_image, stage_of
from danqing.engine.live import Extent
from danqing.engine.passes import Scene
from danqing.engine.protocol import ImageFacts
from danqing.engine.sampling import ModelView
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.engine.studio import Studio
from danqing.request import GenerateRequest

if TYPE_CHECKING:
    from danqing.engine.models import Model

Pixels = np.ndarray[Any, Any]


@dataclass(slots=True)
class Drawn:
    """A picture and what comes with it: masks, in the order of the answer."""

    pixels: Pixels
    facts: ImageFacts
    besides: list[tuple[str, Pixels]] = field(default_factory=list)
    """Role and pixels."""
    maps: list[Pixels] = field(default_factory=list)
    """Control maps, handed out behind all pictures of the job."""
    added: str = ""
    """Tags of networks that options put behind the prompt."""
    changed: GenerateRequest | None = None
    """The request as it was drawn, where it is not the one that was asked for: its infotext is written from it."""


def measure(request: GenerateRequest) -> Extent:
    """How much the request is, before any of it is drawn.

    Raises:
        DanqingError: a name that is not there, or a hires fix without a strength.
    """
    if request.script is not None:
        from danqing.engine.scripts import run as scripts

        return scripts.measure(request)
    if request.kind == "extras":
        return Extent(1, 1, max(1, len(request.init_images)))
    view = ModelView(ModelSigmas(linear_alphas()))
    if request.kind == "img2img":
        calls = passes.stage_calls(request, stage_of(request), view)
    else:
        calls = passes.stage_calls(request, passes.first_stage(request), view)
    if request.hires is not None and request.kind == "txt2img":
        calls += passes.stage_calls(request, second_stage(request, request.hires), view)
    return Extent(request.image_count, max(1, calls), request.image_count * _stride(request) + maps_of(request))


def _stride(request: GenerateRequest) -> int:
    """Pictures that the job hands out for each one drawn."""
    if request.inpaint is None:
        return 1
    return 1 + request.options.return_mask + request.options.return_mask_composite


def plan(request: GenerateRequest, index: int, studio: Studio, track: Track) -> Plan:
    """Picture number `index` (from 0) of a request with its seeds resolved, handed out when it is done."""
    if request.kind == "extras":
        return (yield from extras(request, studio, track))
    if request.script is not None:
        from danqing.engine.scripts import run as scripts

        return (yield from scripts.run(request, studio, track))
    drawn = yield from picture(request, index, studio, track)
    yield from hand_out(drawn, index * _stride(request))
    if index == 0:
        for place, shown in enumerate(drawn.maps, request.image_count * _stride(request)):
            yield Finished(shown, _facts_of(drawn.facts, "map", shown), None, place)


def hand_out(drawn: Drawn, index: int, request: GenerateRequest | None = None) -> Generator[Call, Any, None]:
    """Give the picture and what comes with it to the job's owner, from place `index` on."""
    request = drawn.changed or request
    yield Finished(drawn.pixels, drawn.facts, request, index)
    for place, (role, pixels) in enumerate(drawn.besides, index + 1):
        yield Finished(pixels, _facts_of(drawn.facts, role, pixels), request, place)


def _facts_of(facts: ImageFacts, role: str, pixels: Pixels) -> ImageFacts:
    height, width, channels = pixels.shape
    told = {**facts.as_dict(), "role": role, "width": width, "height": height, "channels": channels}
    return ImageFacts.from_dict(told)


def picture(request: GenerateRequest, index: int, studio: Studio, track: Track) -> Generator[Call, Any, Drawn]:
    """Draw one picture of a request; nothing is handed out yet."""
    own, pairs = plugged.before(request, index, Scene(request, index, studio, track).seed, studio)
    drawn = yield from _picture(own, index, studio, track)
    drawn.facts.extra.update(pairs)
    if drawn.added:
        drawn.changed = own.model_copy(update={"prompt": own.prompt + drawn.added})
    elif own is not request:
        drawn.changed = own
    return (yield from plugged.over(drawn, own, studio, track))


def _picture(request: GenerateRequest, index: int, studio: Studio, track: Track) -> Generator[Call, Any, Drawn]:
    scene = Scene(request, index, studio, track)
    scene.tell(told.of_request(request))
    if request.kind == "img2img":
        painted = yield from image_to_image(scene)
        told_of = facts(scene, painted.pixels, painted.model)
        return Drawn(painted.pixels, told_of, _besides(request, painted), scene.maps, scene.added)
    pixels, model = yield from text_to_image(scene)
    pixels = yield from passes.with_faces(scene, pixels)
    return Drawn(pixels, facts(scene, pixels, model), maps=scene.maps, added=scene.added)


def text_to_image(scene: Scene) -> Generator[Call, Any, tuple[Pixels, Model]]:
    """The pixels, and the model that drew them last."""
    request, stage = scene.request, passes.first_stage(scene.request)
    hands = yield from passes.ready(scene, stage)
    if request.hires is not None and request.hires.first_pass:
        first: torch.Tensor | Pixels = np.asarray(scene.studio.image(request.hires.first_pass).convert("RGB"))
    else:
        hands.guide.concat = yield from passes.blank_concat(scene, hands.model, stage)
        first = yield from passes.sampled(scene, stage, hands)
    model = hands.model
    latent = first
    if request.hires is not None and not scene.track.interrupted:
        latent, model = yield from second_pass(scene, request.hires, first, hands)
    assert isinstance(latent, torch.Tensor)
    pixels = yield from passes.decoded(scene, model, latent)
    return pixels, model


def facts(scene: Scene, pixels: Pixels, model: Model) -> ImageFacts:
    """What the picture's infotext says beyond its request."""
    if model.vae_name:
        scene.tell({"VAE hash": model.vae_hash or "", "VAE": model.vae_name})
    return facts_of_request(scene, pixels, scene.pairs, model.hash10)


def facts_of_request(
    scene: Scene, pixels: Pixels, pairs: dict[str, str | int | float], hash10: str | None = None
) -> ImageFacts:
    """The same for pixels that no model of ours decoded; `pairs` follow in the infotext."""
    base = scene.studio.checkpoint(scene.request.model)
    height, width = pixels.shape[:2]
    return ImageFacts(
        seed=scene.seed,
        width=width,
        height=height,
        model_name=base.base,
        model_hash=base.hash10 or hash10 or "",
        schedule=catalog.used_schedule(scene.request),
        subseed=scene.subseed,
        extra=dict(pairs),
    )


def _besides(request: GenerateRequest, painted: Repainted) -> list[tuple[str, Pixels]]:
    from danqing.imaging import masks
    from danqing.imaging.resize import FILL, resize_image

    shown = painted.canvas.shown
    found: list[tuple[str, Pixels]] = []
    if shown is not None and request.options.return_mask:
        found.append(("mask", np.asarray(shown.convert("RGB"))))
    if shown is not None and request.options.return_mask_composite:
        fitted = shown if shown.size == painted.bare.size else resize_image(FILL, shown, *painted.bare.size)
        found.append(("composite", np.asarray(masks.mask_composite(painted.bare, fitted))))
    return found
