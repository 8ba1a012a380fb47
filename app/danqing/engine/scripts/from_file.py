"""Prompts from file or textbox: a request for each line (spec 18)."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from danqing.engine import catalog
from danqing.engine.calls import Plan
from danqing.engine.plans import hand_out
from danqing.engine.scripts.darkroom import drawn_all
from danqing.engine.scripts.styling import styled
from danqing.errors import DanqingError
from danqing.request import RANDOM_SEED_MAX, GenerateRequest, Script, parsed

if TYPE_CHECKING:
    from danqing.engine.calls import Track
    from danqing.engine.studio import Studio

LINES = 1000
"""More lines than this are refused."""

Reader = Callable[[str], Any]


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


OPTIONS: dict[str, tuple[str, Reader]] = {
    "prompt": ("prompt", str),
    "negative_prompt": ("negative_prompt", str),
    "sd_model": ("model", str),
    "seed": ("seed", int),
    "subseed": ("subseed", int),
    "subseed_strength": ("subseed_strength", float),
    "seed_resize_from_h": ("seed_resize_from_h", int),
    "seed_resize_from_w": ("seed_resize_from_w", int),
    "sampler_name": ("sampler", str),
    "scheduler": ("scheduler", str),
    "batch_size": ("batch_size", int),
    "n_iter": ("n_iter", int),
    "steps": ("steps", int),
    "cfg_scale": ("cfg_scale", float),
    "width": ("width", int),
    "height": ("height", int),
    "restore_faces": ("restore_faces", _truth),
    "tiling": ("tiling", _truth),
}
"""Options of a line that change the picture, as fields of the request."""

IGNORED = frozenset(
    {"outpath_samples", "outpath_grids", "prompt_for_display", "do_not_save_samples", "do_not_save_grid", "styles"}
)
"""Options that name files of the WebUI's own machine, or say how it shows the picture."""


def read_line(line: str) -> dict[str, Any]:
    """The fields of a line: its options, or, when it does not read as options, all of it as the prompt.

    Raises:
        DanqingError: `invalid_field`, for an option that is not known or does not read as its type.
    """
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    if "--" not in line or not words or not words[0].startswith("--"):
        return {"prompt": line}
    found: dict[str, Any] = {}
    place = 0
    while place < len(words):
        name = words[place].removeprefix("--")
        if not words[place].startswith("--") or place + 1 >= len(words):
            raise DanqingError("invalid_field", field=words[place][:60], reason=f"in the line {line[:120]!r}")
        text, place = words[place + 1], place + 2
        while name == "prompt" and place < len(words) and not words[place].startswith("--"):
            text, place = f"{text} {words[place]}", place + 1
        if name in IGNORED:
            continue
        if name not in OPTIONS:
            raise DanqingError("invalid_field", field=f"--{name}"[:60], reason=f"known: {', '.join(OPTIONS)}")
        field, read = OPTIONS[name]
        try:
            found[field] = read(text)
        except ValueError:
            raise DanqingError("invalid_field", field=f"--{name}", reason=text[:60]) from None
    return found


def requests(request: GenerateRequest, args: dict[str, Any]) -> list[GenerateRequest]:
    """The request of each line that is not empty.

    Raises:
        DanqingError: `invalid_field`, `too_many_images`, or a name that is not there.
    """
    lines = [line.strip() for line in str(args["prompt_txt"]).splitlines() if line.strip()]
    if len(lines) > LINES:
        raise DanqingError("too_many_images", count=len(lines), maximum=LINES)
    found, seed = [], request.seed
    # The job's seed makes the seeds of its lines, so that a job drawn again gives the same pictures.
    source = random.Random(request.seed)
    for line in lines:
        fields = read_line(line)
        for name in ("prompt", "negative_prompt"):
            own, common = fields.get(name), getattr(request, name)
            if own and common:
                fields[name] = f"{own} {common}" if args["position"] == "start" else f"{common} {own}"
        if args.get("random_seed") and not args["iterate_seed"] and not args["same_random_seed"]:
            fields.setdefault("seed", source.randint(0, RANDOM_SEED_MAX))
        fields.setdefault("seed", seed)
        if "sampler" in fields:
            fields["sampler"], schedule = catalog.split_sampler(fields["sampler"], fields.get("scheduler"))
            fields["scheduler"] = schedule
        made = parsed({**request.model_dump(), "script": None, **fields})
        found.append(styled(made.resolved(source), request.script))
        if args["iterate_seed"]:
            seed += request.image_count
    return found


def run(request: GenerateRequest, script: Script, studio: Studio, track: Track) -> Plan:
    """The pictures of all lines, in order."""
    wanted = requests(request, script.args)
    place = 0
    for asked, found in zip(wanted, (yield from drawn_all(wanted, studio)), strict=True):
        for one in found:
            yield from hand_out(one, place, asked)
            place += 1 + len(one.besides)
