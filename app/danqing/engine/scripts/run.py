"""Which plan stands behind a script's name, and how much it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from danqing.engine import plans, plugged
from danqing.engine.calls import Plan, Track
from danqing.engine.live import Extent
from danqing.engine.scripts import alternative, from_file, loopback, matrix, outpainting, plot, table, tiled_upscale
from danqing.engine.scripts.darkroom import alone
from danqing.errors import DanqingError
from danqing.request import GenerateRequest, Script
from danqing.request import checked as bounded
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.engine.studio import Studio

Run = Callable[[GenerateRequest, Script, "Studio", Track], Plan]
Args = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A script's plan. `size`: (UNet calls, pictures) of it, a guess where the way depends on a picture."""

    run: Run
    size: Callable[[GenerateRequest, Args], tuple[int, int]]


def _calls(request: GenerateRequest) -> int:
    extent = plans.measure(alone(request))
    return extent.calls


def _sum(wanted: list[GenerateRequest], more: int) -> tuple[int, int]:
    count = sum(one.image_count for one in wanted)
    return sum(_calls(one) * one.image_count for one in wanted), count + more


def _plot(request: GenerateRequest, args: Args) -> tuple[int, int]:
    wanted = list(plot.requests(request, args).values())
    lone = len(wanted) if args["include_lone_images"] else 0
    return _sum(wanted, 0)[0], 1 + lone


def _loopback(request: GenerateRequest, args: Args) -> tuple[int, int]:
    return _calls(request) * request.n_iter * int(args["loops"]), loopback.pictures(request, args)


def _tiles(request: GenerateRequest, args: Args) -> tuple[int, int]:
    # How many tiles there are is known when the picture is; four at scale 2 with tiles as large as the picture.
    return int(_calls(request) * request.n_iter * max(1, args["scale"]) ** 2), request.n_iter


def _sides(request: GenerateRequest, args: Args) -> tuple[int, int]:
    return _calls(request) * request.image_count * max(1, len(args["direction"])), request.image_count


ENTRIES: dict[str, Entry] = {
    "prompt matrix": Entry(matrix.run, lambda request, args: _sum(matrix.requests(request, args), 1)),
    "prompts from file or textbox": Entry(
        from_file.run, lambda request, args: _sum(from_file.requests(request, args), 0)
    ),
    "x/y/z plot": Entry(plot.run, _plot),
    "loopback": Entry(loopback.run, _loopback),
    "sd upscale": Entry(tiled_upscale.run, _tiles),
    "outpainting mk2": Entry(outpainting.mk2, _sides),
    "poor man's outpainting": Entry(outpainting.poor_mans, _sides),
    "img2img alternative test": Entry(alternative.run, alternative.size),
}


def _entry(name: str) -> Entry:
    """Ours, else a plug-in's, of which nobody knows beforehand how much it draws."""
    return ENTRIES.get(name) or Entry(
        lambda request, script, studio, track: plugged.script(request, script.name, script.args, studio, track),
        lambda request, args: (_calls(request) * request.image_count, request.image_count),
    )


def checked(script: Script) -> Script:
    """The script with every argument in place.

    Raises:
        DanqingError: `unknown_script`, `invalid_field`, `out_of_range`.
    """
    row = table.by_name(script.name)
    known = {arg.name: arg.read(script.args.get(arg.name)) for arg in row.args if arg.name}
    return Script(name=row.name, args={**script.args, **known})


def check_limits(request: GenerateRequest, limits: Settings) -> None:
    """What a script's own text asks for (a line's options, an axis' values) lies within the limits of every request.

    Raises:
        DanqingError: arguments that do not fit, as of a request.
    """
    if request.script is None:
        return
    script = checked(request.script)
    wanted: Iterable[GenerateRequest] = ()
    if script.name == "prompts from file or textbox":
        wanted = from_file.requests(request, script.args)
    elif script.name == "x/y/z plot":
        wanted = plot.requests(request, script.args).values()
    count, most = 0, limits.get_int("limit_images")
    for one in wanted:
        count += bounded(one, limits).image_count
        if count > most:
            raise DanqingError("too_many_images", count=count, maximum=most)


def measure(request: GenerateRequest) -> Extent:
    """How much a request with a script is.

    Raises:
        DanqingError: arguments that do not fit.
    """
    assert request.script is not None
    script = checked(request.script)
    calls, images = _entry(script.name).size(request, script.args)
    return Extent(1, max(1, calls), images)


def run(request: GenerateRequest, studio: Studio, track: Track) -> Plan:
    """The script's plan."""
    assert request.script is not None
    script = checked(request.script)
    return (yield from _entry(script.name).run(request, script, studio, track))
