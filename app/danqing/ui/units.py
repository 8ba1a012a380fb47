"""The boxes of the ControlNet units, and back to a request's units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.control import catalog
from danqing.errors import DanqingError
from danqing.library.controls import NONE

UNITS = 3
FIELDS: Mapping[str, str] = {
    "module": "module",
    "model": "model",
    "image": "image",
    "weight": "weight",
    "start": "guidance_start",
    "end": "guidance_end",
    "mode": "control_mode",
    "resize": "resize_mode",
    "hires": "hr_option",
    "res": "processor_res",
    "a": "threshold_a",
    "b": "threshold_b",
    "perfect": "pixel_perfect",
}
"""Part of a box's name → field of `ControlUnit`."""

MODES = {
    "mode_balanced": "Balanced",
    "mode_prompt": "My prompt is more important",
    "mode_control": "ControlNet is more important",
}
FITS = {"fit_just": "Just Resize", "fit_crop": "Crop and Resize", "fit_fill": "Resize and Fill"}
PASSES = {"pass_both": "Both", "pass_low": "Low res only", "pass_high": "High res only"}
"""Word → value of the request."""


def box(number: int, part: str) -> str:
    """The name of a unit's box."""
    return f"control{number}_{part}"


NAMES: tuple[str, ...] = tuple(box(n, part) for n in range(UNITS) for part in ("on", *FIELDS))


def units_of(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The units that are switched on.

    Raises:
        DanqingError: `invalid_field`, when a unit has neither model nor preprocessor.
    """
    return [_unit(values, number) for number in range(UNITS) if values.get(box(number, "on")) is True]


def _unit(values: Mapping[str, Any], number: int) -> dict[str, Any]:
    unit = {field: values.get(box(number, part)) for part, field in FIELDS.items()}
    if (not unit["model"] or unit["model"] == NONE) and not catalog.find(
        str(unit["module"] or NONE.lower())
    ).model_free:
        raise DanqingError("invalid_field", field="control_model", reason=f"{number + 1}")
    if isinstance(unit["processor_res"], float):
        unit["processor_res"] = int(unit["processor_res"])
    return {name: value for name, value in unit.items() if value is not None} | {"image": unit["image"] or ""}
