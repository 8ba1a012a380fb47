"""ControlNet units as the WebUI's clients send them (spec 5.1): old and new spellings, names or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from danqing.api.context import Context
from danqing.api.fields import Drawing
from danqing.api.script_args import always_on
from danqing.control import catalog
from danqing.control.catalog import Row
from danqing.engine.scripts.table import truth
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.gallery.store import check_room
from danqing.library.controls import NONE, Controls

RESIZE = ("Just Resize", "Crop and Resize", "Resize and Fill")
RESIZE_NAMES = {
    "inner fit (scale to fit)": RESIZE[1],
    "scale to fit (inner fit)": RESIZE[1],
    "outer fit (shrink to fit)": RESIZE[2],
    "envelope (outer fit)": RESIZE[2],
}
MODES = ("Balanced", "My prompt is more important", "ControlNet is more important")
HIRES = ("Both", "Low res only", "High res only")
UNKNOWN = "Unknown"
"""A union's kind of map, where the preprocessor tells it."""

ALIASES = {
    "input_image": "image",
    "mask_image": "mask",
    "lowvram": "low_vram",
    "guidance": "guidance_end",
    "control_weight": "weight",
}
"""Old spellings."""

LARGEST = 8192
"""Of `processor_res`, beyond every slider."""

NUMBERS = ("weight", "processor_res", "threshold_a", "threshold_b", "guidance_start", "guidance_end")
SWITCHES = ("pixel_perfect", "low_vram", "save_detected_map", "inpaint_crop_input_image")
NOT_DONE = ("effective_region_mask", "ipadapter_input")
"""Would change the picture and are not built: anything but nothing is refused."""


def control_units(fields: Drawing, context: Context, maps: bool = True) -> list[dict[str, Any]]:
    """The enabled units, as fields of `ControlUnit`; their pictures are stored.

    Args:
        maps: whether the units may show their maps beside the pictures.

    Raises:
        DanqingError: `invalid_field`, which says what would fit; `unknown_control`, `unknown_module`, `broken_image`.
    """
    found = []
    for number, unit in enumerate(always_on(fields, "controlnet") or []):
        if not unit:
            continue
        if not isinstance(unit, Mapping):
            raise DanqingError("invalid_field", field=f"controlnet[{number}]", reason="JSON object")
        values = spelled(unit, number)
        if truth(values.get("enabled") or False, f"controlnet[{number}].enabled"):
            found.append(_unit(values, number, context) | ({} if maps else {"save_detected_map": False}))
    return found


def spelled(unit: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The unit under today's names.

    Raises:
        DanqingError: `invalid_field`, when an old and a new name are both given and say two things.
    """
    values = dict(unit)
    for old, new in ALIASES.items():
        if values.get(old) is None:
            continue
        if values.get(new) is not None and (values[new] != values[old] or new == "image"):
            raise DanqingError("invalid_field", field=f"controlnet[{number}].{old}", reason=f"{new} is given too")
        values[new] = values.pop(old)
    return values


def _unit(values: Mapping[str, Any], number: int, context: Context) -> dict[str, Any]:
    where = f"controlnet[{number}]"
    image, mask = pictures(values.get("image"), values.get("mask"))
    row = preprocessor(str(values.get("module") or "none"))
    model = str(values.get("model") or NONE)
    if model.lower() == NONE.lower() and not row.model_free:
        raise DanqingError("invalid_field", field=f"{where}.model", reason=_models(context))
    for name in NOT_DONE:
        if values.get(name):
            raise DanqingError("not_available", feature=f"{where}.{name}")
    found: dict[str, Any] = {
        "module": row.name,
        "model": NONE if row.model_free else Controls(context.logins.data).find(model).title,
        "image": _kept(image, context) if image else "",
        "mask": _kept(mask, context) if mask else "",
        "resize_mode": choice(values.get("resize_mode"), RESIZE, f"{where}.resize_mode", RESIZE_NAMES, usual=RESIZE[1]),
        "control_mode": choice(values.get("control_mode"), MODES, f"{where}.control_mode"),
        "hr_option": choice(values.get("hr_option"), HIRES, f"{where}.hr_option"),
        **{name: number_of(values[name], f"{where}.{name}") for name in NUMBERS if _given(values.get(name))},
        **{name: truth(values[name], f"{where}.{name}") for name in SWITCHES if _given(values.get(name))},
    }
    if "processor_res" in found:
        # Outside its slider a setting is the preprocessor's own default.
        found["processor_res"] = int(found["processor_res"]) if -1 <= found["processor_res"] <= LARGEST else -1
    if values.get("union_control_type"):
        found["union_control_type"] = choice(
            str(values["union_control_type"]).replace(" ", ""), (UNKNOWN, *catalog.TYPES), f"{where}.union_control_type"
        )
    weights = values.get("advanced_weighting")
    if _given(weights) and weights != []:
        if not isinstance(weights, list):
            raise DanqingError(
                "invalid_field", field=f"{where}.advanced_weighting", reason="Input should be a valid list"
            )
        found["advanced_weighting"] = tuple(number_of(one, f"{where}.advanced_weighting") for one in weights)
    if found.get("guidance_start", 0) > found.get("guidance_end", 1):
        raise DanqingError("invalid_field", field=f"{where}.guidance_start", reason="is after guidance_end")
    return found


def preprocessor(name: str) -> Row:
    """A preprocessor by its name or label in any case.

    Raises:
        DanqingError: `unknown_preprocessor`.
    """
    bare = name.strip().lower()
    found = (row.name for row in catalog.rows() if bare in (row.name.lower(), row.label.lower()))
    return catalog.find(next(found, name))


def _given(value: Any) -> bool:
    return value is not None and value != ""


def number_of(value: Any, field: str) -> float:
    """A number, also one that comes as text.

    Raises:
        DanqingError: `invalid_field`.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise DanqingError("invalid_field", field=field, reason="Input should be a valid number")
    return found


def _models(context: Context) -> str:
    return "one of " + (", ".join(row.title for row in Controls(context.logins.data).all()) or "-")


def choice(
    value: Any, known: tuple[str, ...], field: str, more: Mapping[str, str] | None = None, usual: str = ""
) -> str:
    """One of `known`, by name in any case or by number; for nothing `usual`, else the first.

    Raises:
        DanqingError: `invalid_field`, with what there is.
    """
    if not _given(value):
        return usual or known[0]
    text = str(value).strip().lower()
    number = text.removesuffix(".0")
    if not isinstance(value, bool) and number.isdecimal() and len(number) < 3 and int(number) < len(known):
        return known[int(number)]
    for name in known:
        if text == name.lower():
            return name
    if more and text in more:
        return more[text]
    raise DanqingError("invalid_field", field=field, reason="one of " + ", ".join(known))


def pictures(image: Any, mask: Any) -> tuple[str | None, str | None]:
    """The base64 texts of a unit's picture and mask: a text, {image, mask}, [image, mask] or a list of one such object.

    Raises:
        DanqingError: `invalid_field`, also for several pictures: taking the first would be the wrong control.
    """
    if image == []:
        image = None
    if isinstance(image, list):
        first = image[0]
        if len(image) > (1 if isinstance(first, Mapping) else 2):
            raise DanqingError("invalid_field", field="controlnet.image", reason="one picture")
        if isinstance(first, Mapping):
            image = first
        else:
            image, mask = first, (image[1] if len(image) > 1 else mask)
    if isinstance(image, Mapping):
        image, mask = image.get("image"), image.get("mask") or mask
    for one in (image, mask):
        if one is not None and not isinstance(one, str):
            raise DanqingError("invalid_field", field="controlnet.image", reason="base64 text")
    return image or None, mask or None


def _kept(text: str, context: Context) -> str:
    from danqing.api import images

    check_room(context.logins.data, context.settings.get_int("disk_reserve_mb"))
    picture = images.decode(text, urls=context.settings.get_bool("url_inputs"))
    return inputs.keep(context.logins.data, picture, context.settings.get_int("limit_upload_pixels"))
