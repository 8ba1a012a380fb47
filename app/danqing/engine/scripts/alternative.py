"""img2img alternative test: the noise that leads to a picture is found by walking Euler backwards, then drawn from (spec 18)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from danqing.engine import passes, plans, schedules, told
from danqing.engine.calls import Call, Finished, Plan
from danqing.engine.hires import unit_pixels
from danqing.engine.image_to_image import stage_of
from danqing.engine.noise import PictureNoise
from danqing.engine.passes import Hands, Scene
from danqing.engine.scripts.darkroom import alone, with_pairs
from danqing.errors import DanqingError
from danqing.imaging import resize
from danqing.request import GenerateRequest, Script

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio


def size(request: GenerateRequest, args: dict[str, Any]) -> tuple[int, int]:
    """UNet calls and pictures."""
    wanted = changed(request, args)
    return (plans.measure(wanted).calls + int(args["decode_steps"])) * request.image_count, request.image_count


def changed(request: GenerateRequest, args: dict[str, Any]) -> GenerateRequest:
    """The request with what the script overrides."""
    changes: dict[str, Any] = {}
    if args["override_sampler"]:
        changes["sampler"] = "Euler"
    if args["override_prompt"]:
        changes |= {"prompt": args["original_prompt"], "negative_prompt": args["original_negative_prompt"]}
    if args["override_steps"]:
        changes["steps"] = int(args["decode_steps"])
    if args["override_strength"]:
        changes["denoising_strength"] = 1.0
    return alone(request, **changes)


def run(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """One picture for every one asked for."""
    args = script.args
    wanted = changed(request, args)
    pairs: dict[str, str | int | float] = {
        "Decode prompt": args["original_prompt"],
        "Decode negative prompt": args["original_negative_prompt"],
        "Decode CFG scale": args["cfg"],
        "Decode steps": args["decode_steps"],
        "Randomness": args["randomness"],
        "Sigma Adjustment": str(args["sigma_adjustment"]),
    }
    if not wanted.init_images:
        raise DanqingError("missing_picture", field="init_images")
    for turn in range(request.image_count):
        scene = Scene(wanted, turn, studio, track)
        scene.tell(told.of_request(wanted))
        pixels, model = yield from _picture(scene, args)
        facts = with_pairs(plans.facts(scene, pixels, model), pairs)
        yield Finished(pixels, facts, wanted, turn)
        if track.interrupted:
            return


def _picture(scene: Scene, args: dict[str, Any]) -> Generator[Call, Any, tuple[Any, Any]]:
    request = scene.request
    stage = stage_of(request)
    decode = replace(stage, prompt=args["original_prompt"], negative_prompt=args["original_negative_prompt"])
    image = resize.flattened(scene.studio.image(request.init_images[0]), request.options.img2img_background_color)
    image = resize.resize_image(request.resize_mode, image, request.width, request.height)
    hands = yield from passes.ready(scene, decode)
    latent = yield from passes.encoded_image(scene, hands.model, unit_pixels(np.asarray(image)))
    noise = yield from _found(scene, hands, latent, args)
    share = args["randomness"]
    if share > 0:
        drawn = scene.noise().first(stage.shape)
        noise = ((1 - share) * noise + share * drawn) / ((share**2 + (1 - share) ** 2) ** 0.5)
    second = yield from passes.ready(scene, stage)
    # The sampler adds noise to the latent: what it is given makes the sum the noise alone.
    given = noise - latent / _levels(second, request.steps)[0]
    stage = replace(stage, start=latent)
    result = yield from passes.sampled(scene, stage, second, Given(scene.noise(), given))
    pixels = yield from passes.decoded(scene, second.model, result)
    return pixels, second.model


class Given:
    """A source of noise whose first draw is known."""

    def __init__(self, source: PictureNoise, first: torch.Tensor) -> None:
        self._source, self._first = source, first

    def first(self, shape: tuple[int, ...]) -> torch.Tensor:
        """(C, h, w)."""
        return self._first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _levels(hands: Hands, steps: int) -> torch.Tensor:
    return schedules.sigmas("Automatic", hands.view.sigmas, steps)


def _found(
    scene: Scene, hands: Hands, latent: torch.Tensor, args: dict[str, Any]
) -> Generator[Call, Any, torch.Tensor]:
    """Noise whose Euler walk ends in `latent`, (4, h, w): the walk backwards, from the smallest sigma to the largest.

    With the adjustment each slope is taken at the lower end of its step.
    """
    guide = hands.guide
    guide.scale, guide.both, guide.switch = float(args["cfg"]), True, None
    levels, x, adjusted = _levels(hands, int(args["decode_steps"])).flip(0), latent, args["sigma_adjustment"]
    total = len(levels) - 1
    for i in range(1, len(levels)):
        sigma = levels[i - 1] if adjusted and i > 1 else levels[i]
        t = float(hands.view.sigmas.to_t(sigma.reshape(1)))
        root = (levels[i] ** 2 + 1).sqrt()
        said = yield from guide.predict(x / root, t, float(sigma), i - 1, total)
        in_v = hands.view.prediction == "v"
        clean = x / root**2 - said.guided * (levels[i] / root) if in_v else x - said.guided * levels[i]
        slope = (x - clean) / (2 * levels[1] if adjusted and i == 1 else sigma)
        x = x + slope * (levels[i] - levels[i - 1])
        scene.track.step = min(scene.track.step + 1, scene.track.steps)
    return x / levels[-1] if adjusted else x / x.std()
