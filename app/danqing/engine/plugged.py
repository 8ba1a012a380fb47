"""Where plug-ins reach into drawing: their generators of requests are driven here, their faults stay theirs."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine.calls import Call, Finished, Plan, Track, Work
from danqing.errors import DanqingError
from danqing.plugins import Change, Drawing, Result
from danqing.plugins.loading import active
from danqing.request import GenerateRequest

if TYPE_CHECKING:
    from danqing.engine.plans import Drawn
    from danqing.engine.studio import Studio

Pixels = np.ndarray[Any, Any]
Pairs = dict[str, str | int | float]

ROUNDS = 100
"""A plug-in that asks for more rounds of pictures than this is stuck."""

WITHOUT = {"": {"bare": True}}
"""Stands in `request.plugins` of a picture that a plug-in asked for while it went over another."""


def bare(request: GenerateRequest) -> GenerateRequest:
    """The request, past all plug-ins."""
    return request.model_copy(update={"plugins": WITHOUT, "script": None})


def before(request: GenerateRequest, index: int, seed: int, studio: Studio) -> tuple[GenerateRequest, Pairs]:
    """The request of one picture as plug-ins change it, and what its infotext says of that."""
    pairs: Pairs = {}
    if "" in request.plugins:
        return request, pairs
    told = {"request": request, "index": index, "seed": seed, "data": studio.data}
    for name, change in active().calls("danqing_before_picture", told):
        if not isinstance(change, Change):
            active().fail(name, "danqing_before_picture", TypeError("Change expected"))
            continue
        told["request"] = change.request
        pairs.update(change.pairs)
    changed = told["request"]
    assert isinstance(changed, GenerateRequest)
    return changed, pairs


def over(drawn: Drawn, request: GenerateRequest, studio: Studio, track: Track) -> Generator[Call, Any, Drawn]:
    """The picture after plug-ins went over it."""
    if "" in request.plugins:
        return drawn
    told: dict[str, Any] = {
        "request": request,
        "image": Image.fromarray(drawn.pixels),
        "seed": drawn.facts.seed,
        "data": studio.data,
        "hold": studio.hold,
    }
    for name, drawing in active().calls("danqing_redraw", told):
        results = yield from driven(name, drawing, studio, track)
        if results and not track.interrupted:
            drawn.pixels = np.asarray(results[0].image.convert("RGB"))
            drawn.facts.extra.update(results[0].pairs)
            told["image"] = results[0].image
    return drawn


def driven(
    name: str, drawing: Drawing, studio: Studio, track: Track, *, past: bool = True
) -> Generator[Call, Any, list[Result]]:
    """Draws what a plug-in's generator asks for until it returns; [] when it raised, which switches it off.

    `past`: what it asks for is drawn past all plug-ins.
    """
    images: list[Image.Image] | None = None
    for _ in range(ROUNDS):
        # The plug-in may look for faces or write files: the engine's thread has no time for that.
        state, value = yield Work(partial(_turn, drawing, images))
        if state == "done":
            return [one for one in value or () if isinstance(one, Result)]
        if state == "raised":
            break
        images = yield from _pictures([bare(one) for one in value] if past else value, studio, track)
        if track.interrupted:
            drawing.close()
            return []
    else:
        value = RuntimeError(f"more than {ROUNDS} rounds")
    drawing.close()
    if isinstance(value, DanqingError):
        raise value
    active().fail(name, "drawing", value)
    return []


def _turn(drawing: Drawing, images: list[Image.Image] | None) -> tuple[str, Any]:
    try:
        return "asks", list(drawing.send(images))  # type: ignore[arg-type]
    except StopIteration as stop:
        return "done", stop.value
    except Exception as error:  # noqa: BLE001 - the plug-in's own, told by `driven`
        return "raised", error


def _pictures(wanted: list[GenerateRequest], studio: Studio, track: Track) -> Generator[Call, Any, list[Image.Image]]:
    from danqing.engine import plans

    images = []
    for request in wanted:
        if track.interrupted:
            break
        drawn = yield from plans.picture(request, 0, studio, track)
        images.append(Image.fromarray(drawn.pixels))
    return images


def script(request: GenerateRequest, name: str, args: Mapping[str, Any], studio: Studio, track: Track) -> Plan:
    """The plan of the selectable script `name` (in lower case) of a plug-in.

    Raises:
        DanqingError: `plugin_failed`, when nobody draws it any more.
    """
    from danqing.engine import plans
    from danqing.engine.passes import Scene
    from danqing.engine.scripts.styling import styled

    request = styled(request.model_copy(update={"script": None}), request.script)
    told = {"name": name, "request": request, "args": args, "data": studio.data, "hold": studio.hold}
    for plugin, drawing in active().calls("danqing_draw_script", told):
        results = yield from driven(plugin, drawing, studio, track, past=False)
        if not results and not track.interrupted:
            raise DanqingError("plugin_failed", name=plugin, reason=name)
        for index, one in enumerate(results):
            asked = one.request or request
            pixels = np.asarray(one.image.convert("RGB"))
            scene = Scene(asked, 0, studio, track)
            yield Finished(pixels, plans.facts_of_request(scene, pixels, dict(one.pairs)), asked, index)
        return
    raise DanqingError("plugin_failed", name=name, reason="danqing_draw_script")


def sampled(name: str, x: Any, course: Any) -> Any:
    """The walk of a plug-in's sampler.

    Raises:
        DanqingError: `unknown_sampler`; `plugin_failed` while it walks.
    """
    for plugin, walk in active().calls("danqing_sample", {"name": name, "x": x, "course": course}):
        return _walk(plugin, walk)
    raise DanqingError("unknown_sampler", name=name[:100], known="-")


def _walk(plugin: str, walk: Any) -> Any:
    try:
        return (yield from walk)
    except DanqingError:
        raise
    except Exception as error:
        active().fail(plugin, "danqing_sample", error)
        raise DanqingError("plugin_failed", name=plugin, reason=f"{type(error).__name__}: {error}"[:200]) from error


def upscaled(name: str, pixels: Pixels, scale: float) -> Pixels:
    """A picture made larger by a plug-in's upscaler. Blocks.

    Raises:
        DanqingError: `plugin_failed`.
    """
    told = {"name": name, "image": Image.fromarray(pixels), "scale": scale}
    return _image_of(name, "danqing_upscale", told)


def _image_of(name: str, hook: str, told: Mapping[str, Any]) -> Pixels:
    for plugin, image in active().calls(hook, told):
        try:
            return np.asarray(image.convert("RGB"))
        except Exception as error:  # noqa: BLE001 - what is no image ends the plug-in
            active().fail(plugin, hook, error)
    raise DanqingError("plugin_failed", name=name, reason=hook)
