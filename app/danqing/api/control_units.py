"""ControlNet units as the WebUI's clients send them (spec 5.1)."""

from __future__ import annotations

from typing import Any

from danqing.api.context import Context
from danqing.api.fields import Drawing
from danqing.api.script_args import always_on
from danqing.errors import DanqingError


def control_units(fields: Drawing, context: Context) -> list[dict[str, Any]]:
    """The enabled units, as fields of `ControlUnit`.

    Raises:
        DanqingError: `not_available`.
    """
    units = always_on(fields, "controlnet") or []
    if any(isinstance(unit, dict) and unit.get("enabled") for unit in units):
        raise DanqingError("not_available", feature="controlnet")
    return []
