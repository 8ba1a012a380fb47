"""Scripts as the WebUI's clients ask for them: a title and a list of arguments in the page's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from danqing.api.context import Context
from danqing.api.errors import ApiError
from danqing.api.fields import Drawing, Img2Img
from danqing.engine.scripts import table
from danqing.errors import DanqingError
from danqing.request import GenerateRequest
from danqing.upscale import catalog as upscalers

SOFT = ("power", "scale", "detail", "mask_influence", "difference_threshold", "difference_contrast")
"""Arguments of soft inpainting behind its switch."""

IGNORED = frozenset({"sampler", "seed", "refiner", "extra options", "comments", "hypertile"})
"""Always-on scripts that only own controls of the WebUI's page: in API calls the request's fields count (spec 18)."""

UPSCALER_AT = 2
"""Place of the upscaler among SD upscale's arguments."""

DRAWN = frozenset({"controlnet", "soft inpainting"})


def tab_of(fields: Drawing) -> str:
    return "img2img" if isinstance(fields, Img2Img) else "txt2img"


def selected_script(fields: Drawing, context: Context) -> dict[str, Any] | None:
    """The selectable script with its arguments by name; always-on scripts that nobody knows are refused.

    Raises:
        ApiError: in the WebUI's words, for an unknown title.
        DanqingError: an argument that does not fit.
    """
    for title in fields.alwayson_scripts or {}:
        if title.lower() not in IGNORED | DRAWN and not _of_plugin(title, fields):
            raise ApiError(422, "HTTPException", _wrong_title(title, tab_of(fields)))
    name = fields.script_name
    if not name or name.lower() == "none":
        return None
    row = table.find(name, tab_of(fields))
    if row is None:
        raise ApiError(422, "HTTPException", f"Script '{name[:200]}' not found")
    return {
        "name": row.name,
        "args": row.named(_numbered(row, list(fields.script_args or ()), fields, context.logins.data)),
    }


def _of_plugin(title: str, fields: Drawing) -> table.ScriptRow | None:
    rows = (row for row in table.of_plugins(True) if row.name == title.lower() and tab_of(fields) in row.tabs)
    return next(rows, None)


def plugin_arguments(fields: Drawing) -> dict[str, dict[str, Any]]:
    """What the request says to plug-ins' always-on scripts: arguments by name, by the script's name.

    Raises:
        DanqingError: an argument that does not fit.
    """
    found = {}
    for title in fields.alwayson_scripts or {}:
        if (row := _of_plugin(title, fields)) is not None:
            found[row.name] = row.named(always_on(fields, row.name) or [])
    return found


def _wrong_title(title: str, tab: str) -> str:
    if table.find(title, tab) is not None:
        return "Cannot have a selectable script in the always on scripts params"
    return f"Script '{title[:200]}' not found"


def _numbered(row: table.ScriptRow, values: list[Any], fields: Drawing, data: Path) -> list[Any]:
    """X/Y/Z axes come by number, which counts the tab's own list, and SD upscale's upscaler, which counts the box's."""
    if row.name == "sd upscale" and len(values) > UPSCALER_AT and _is_number(values[UPSCALER_AT]):
        values[UPSCALER_AT] = _at([one.name for one in upscalers.upscalers(data)], values[UPSCALER_AT], "upscaler")
    if row.name != "x/y/z plot":
        return values
    from danqing.engine.scripts.axes import labels

    known = labels(tab_of(fields))
    for place in (0, 3, 6):
        if place < len(values) and _is_number(values[place]):
            values[place] = _at(known, values[place], "axis")
    return values


def _is_number(value: Any) -> bool:
    digits = isinstance(value, str) and value.isdecimal() and len(value) < 9
    return digits or (isinstance(value, int | float) and not isinstance(value, bool))


def _at(known: Sequence[str], value: str | float, field: str) -> str:
    number = int(value)
    if not 0 <= number < len(known):
        raise DanqingError("out_of_range", field=field, value=number, minimum=0, maximum=len(known) - 1)
    return known[number]


def always_on(fields: Drawing, title: str) -> list[Any] | None:
    """The arguments of an always-on script, None where it is not asked for."""
    for name, told in (fields.alwayson_scripts or {}).items():
        if name.lower() == title:
            args = told.get("args", []) if isinstance(told, dict) else told
            if not isinstance(args, list):
                raise DanqingError("invalid_field", field=f"alwayson_scripts.{title}", reason="args must be a list")
            return args
    return None


def soft_inpainting(fields: Drawing) -> dict[str, Any] | None:
    """Soft inpainting's parameters, None where it is off."""
    args = always_on(fields, "soft inpainting")
    if not args or not table.truth(args[0] or False, "soft inpainting"):
        return None
    return {name: value for name, value in zip(SOFT, args[1:], strict=False) if value is not None}


def pictures_of(request: GenerateRequest) -> int:
    """About how many pictures a request with a script draws; never made one by one, as there may be 2^1000.

    Raises:
        DanqingError: values of an axis that do not read.
    """
    if request.script is None:
        return request.image_count
    args: Mapping[str, Any] = request.script.args
    match request.script.name:
        case "prompt matrix":
            text = request.prompt if args["prompt_type"] == "positive" else request.negative_prompt
            return int(2 ** min(text.count("|"), 62))
        case "prompts from file or textbox":
            return sum(1 for line in str(args["prompt_txt"]).splitlines() if line.strip()) * request.image_count
        case "x/y/z plot":
            return prod(_axis_length(args, letter) for letter in "xyz")
        case "loopback":
            return int(args["loops"]) * request.n_iter
    return request.image_count


def _axis_length(args: Mapping[str, Any], letter: str) -> int:
    from danqing.engine.scripts import axes

    axis = axes.find(args[f"{letter}_type"])
    return len(axes.values_of(axis, args[f"{letter}_values"], args[f"{letter}_dropdown"], args["csv_mode"]))
