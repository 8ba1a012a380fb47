"""From what stands in the boxes to a request, and back. Boxes hold anything: text, nothing, NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from danqing.engine.catalog import check_names
from danqing.errors import DanqingError
from danqing.request import GenerateRequest, checked, parsed
from danqing.settings import Settings

TEXTS = ("prompt", "negative_prompt", "sampler", "scheduler", "model")
WHOLE = ("steps", "width", "height", "seed", "batch_size", "n_iter")
REAL = ("cfg_scale",)
NAMES = TEXTS + WHOLE + REAL
"""The boxes of the page, called like the fields of the request."""

ASPECTS = ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16")
STEP = 8
"""Sizes are multiples of this many pixels."""


def request_of(values: Mapping[str, Any], limits: Settings) -> GenerateRequest:
    """The request that the boxes describe, checked.

    Raises:
        DanqingError: names the first box whose value cannot be drawn.
    """
    fields: dict[str, Any] = {name: _text(name, values.get(name)) for name in TEXTS}
    fields |= {name: _whole(name, values.get(name)) for name in WHOLE}
    fields |= {name: _real(name, values.get(name)) for name in REAL}
    request = checked(parsed(fields), limits)
    check_names(request)
    return request


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DanqingError("invalid_field", field=name, reason=type(value).__name__)
    return value


def _whole(name: str, value: Any) -> int:
    if name == "seed" and (value is None or str(value).strip() == ""):
        return -1
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() and len(value) < 40:
        return int(value)
    number = _real(name, value)
    if number != math.floor(number):
        raise DanqingError("not_whole", field=name, value=number)
    return int(number)


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DanqingError("not_a_number", field=name)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise DanqingError("not_a_number", field=name) from None
    if not math.isfinite(number):
        raise DanqingError("not_a_number", field=name)
    return number


def aspect_size(aspect: str, native: int) -> tuple[int, int]:
    """Width and height of this shape with about the area that the model was trained on, in pixels.

    Args:
        aspect: "W:H".
        native: side of the model's own square.
    """
    across, down = (int(part) for part in aspect.split(":"))
    width = native * math.sqrt(across / down)
    return _multiple(width), _multiple(native * native / width)


def _multiple(pixels: float) -> int:
    return max(STEP, round(pixels / STEP) * STEP)
