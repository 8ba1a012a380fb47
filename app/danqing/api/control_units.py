"""ControlNet units as the WebUI's clients send them (spec 5.1): old and new spellings, names or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.api.context import Context
from danqing.api.fields import Drawing
from danqing.api.script_args import always_on
from danqing.errors import DanqingError
from danqing.gallery import inputs
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


def control_units(fields: Drawing, context: Context) -> list[dict[str, Any]]:
    """The enabled units, as fields of `ControlUnit`; their pictures are stored.

    Raises:
        DanqingError: `invalid_field`, which says what would fit; `unknown_control`, `unknown_module`, `broken_image`.
    """
    found = []
    for number, unit in enumerate(always_on(fields, "controlnet") or []):
        if not isinstance(unit, Mapping):
            continue
        values = spelled(unit, number)
        if values.get("enabled"):
            found.append(_unit(values, number, context))
    return found


def spelled(unit: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The unit under today's names.

    Raises:
        DanqingError: `invalid_field`, when an old and a new name are both given.
    """
    values = dict(unit)
    for old, new in ALIASES.items():
        if values.get(old) is None:
            continue
        if values.get(new) is not None:
            raise DanqingError("invalid_field", field=f"controlnet[{number}].{old}", reason=f"{new} is given too")
        values[new] = values.pop(old)
    return values


def _unit(values: Mapping[str, Any], number: int, context: Context) -> dict[str, Any]:
    from danqing.control import catalog

    image, mask = pictures(values.get("image"), values.get("mask"))
    row = catalog.find(str(values.get("module") or "none"))
    model = str(values.get("model") or NONE)
    if model == NONE and not row.model_free:
        raise DanqingError("invalid_field", field=f"controlnet[{number}].model", reason=_models(context))
    where = f"controlnet[{number}]"
    found: dict[str, Any] = {
        "module": row.name,
        "model": NONE if row.model_free else Controls(context.logins.data).find(model).title,
        "image": _kept(image, context) if image else "",
        "mask": _kept(mask, context) if mask else "",
        "resize_mode": choice(values.get("resize_mode", RESIZE[1]), RESIZE, f"{where}.resize_mode", RESIZE_NAMES),
        "control_mode": choice(values.get("control_mode", MODES[0]), MODES, f"{where}.control_mode"),
        "hr_option": choice(values.get("hr_option", HIRES[0]), HIRES, f"{where}.hr_option"),
    }
    for name in ("weight", "processor_res", "threshold_a", "threshold_b", "guidance_start", "guidance_end"):
        if values.get(name) is not None:
            found[name] = values[name]
    for name in ("pixel_perfect", "low_vram", "save_detected_map", "inpaint_crop_input_image"):
        if values.get(name) is not None:
            found[name] = bool(values[name])
    if values.get("union_control_type"):
        found["union_control_type"] = choice(
            str(values["union_control_type"]).replace(" ", ""), (UNKNOWN, *catalog.TYPES), f"{where}.union_control_type"
        )
    if values.get("advanced_weighting"):
        found["advanced_weighting"] = tuple(values["advanced_weighting"])
    if found.get("guidance_start", 0) > found.get("guidance_end", 1):
        raise DanqingError("invalid_field", field=f"{where}.guidance_start", reason="is after guidance_end")
    return found


def _models(context: Context) -> str:
    return "one of " + (", ".join(row.title for row in Controls(context.logins.data).all()) or "-")


def choice(value: Any, known: tuple[str, ...], field: str, more: Mapping[str, str] | None = None) -> str:
    """One of `known`, by name in any case or by number.

    Raises:
        DanqingError: `invalid_field`, with what there is.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= int(value) < len(known):
        return known[int(value)]
    text = str(value).strip().lower()
    for name in known:
        if text == name.lower():
            return name
    if more and text in more:
        return more[text]
    raise DanqingError("invalid_field", field=field, reason="one of " + ", ".join(known))


def pictures(image: Any, mask: Any) -> tuple[str | None, str | None]:
    """The base64 texts of a unit's picture and mask: a text, {image, mask}, [image, mask] or a list of such objects."""
    if isinstance(image, list) and image:
        first = image[0]
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

    picture = images.decode(text, urls=context.settings.get_bool("url_inputs"))
    return inputs.keep(context.logins.data, picture, context.settings.get_int("limit_upload_pixels"))
