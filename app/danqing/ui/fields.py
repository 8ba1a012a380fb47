"""From what stands in the boxes to a request. Boxes hold anything: text, nothing, NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from danqing.engine.catalog import check_names
from danqing.errors import DanqingError
from danqing.options import DrawOptions
from danqing.request import GenerateRequest, checked, parsed, with_old_hires
from danqing.settings import Settings
from danqing.ui import plugs, scripts, units

TEXTS = (
    *("prompt", "negative_prompt", "sampler", "scheduler", "model", "vae"),
    *(
        "hires_upscaler",
        "hires_checkpoint",
        "hires_sampler",
        "hires_scheduler",
        "hires_prompt",
        "hires_negative_prompt",
    ),
    *("refiner_checkpoint", "translate", "script_txt2img", "script_img2img", "english", "english_negative"),
    *("tab", "init", "init_sketch", "inpaint_image", "inpaint_mask", "extras_images", "first_pass"),
    *("extras_upscaler_1", "extras_upscaler_2"),
)
WHOLE = (
    *("steps", "width", "height", "seed", "batch_size", "n_iter", "clip_skip"),
    *("subseed", "seed_resize_from_w", "seed_resize_from_h", "hires_steps", "hires_resize_x", "hires_resize_y"),
    *("resize_mode", "mask_blur", "mask_invert", "mask_fill", "mask_area", "mask_padding"),
    *("extras_mode", "extras_width", "extras_height"),
)
SOFT = ("power", "scale", "detail", "mask_influence", "difference_threshold", "difference_contrast")
REAL = (
    *("cfg_scale", "subseed_strength", "s_min_uncond", "hires_denoise", "hires_scale", "refiner_switch_at", "denoise"),
    *(f"soft_{name}" for name in SOFT),
    *("extras_resize", "extras_visibility", "extras_gfpgan", "extras_codeformer", "extras_weight"),
)
TRUTHS = ("variation_on", "tiling", "restore_faces", "hires_on", "refiner_on", "soft_on", "extras_crop")
LISTS = ("styles", "options_pasted")

NAMES = TEXTS + WHOLE + REAL + TRUTHS + LISTS + scripts.NAMES + units.NAMES
"""The boxes of the page; those of the request's own fields are called like them."""

ASPECTS = ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16")
STEP = 8
"""Sizes are multiples of this many pixels."""

IMAGE_TABS = ("img2img", "inpaint")


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every box in the type of its field.

    Raises:
        DanqingError: names the first box whose value does not read.
    """
    found: dict[str, Any] = {name: _text(name, values.get(name)) for name in TEXTS}
    found |= {name: _whole(name, values.get(name)) for name in WHOLE}
    found |= {name: _real(name, values.get(name)) for name in REAL}
    found |= {name: values.get(name) is True for name in TRUTHS}
    found |= {name: _texts(values.get(name)) for name in LISTS}
    return found


def request_of(
    values: Mapping[str, Any], limits: Settings, options: DrawOptions | None = None, **more: Any
) -> GenerateRequest:
    """The request that the boxes describe, checked.

    Args:
        options: what the reader has set, over which the boxes' own go.
        more: fields of the request that were made of the boxes already (prompts with their styles, a batch's picture).

    Raises:
        DanqingError: names the first box whose value cannot be drawn.
    """
    boxes = read(values)
    if boxes["tab"] == "extras":
        return checked(parsed(_extras(boxes, options or DrawOptions()) | more), limits)
    own = (
        *("prompt", "negative_prompt", "sampler", "scheduler", "model", "steps", "width", "height", "seed"),
        *("batch_size", "n_iter", "cfg_scale", "clip_skip", "tiling", "restore_faces", "s_min_uncond"),
    )
    fields: dict[str, Any] = {name: boxes[name] for name in own}
    fields["options"] = _options(boxes, options or DrawOptions())
    fields |= _variation(boxes) | _refiner(boxes)
    image = boxes["tab"] in IMAGE_TABS
    fields |= _image(boxes) if image else _hires(boxes)
    fields["script"] = scripts.script_of(values, boxes["script_img2img" if image else "script_txt2img"])
    fields["control"] = units.units_of(values)
    fields["plugins"] = plugs.arguments(values, "img2img" if image else "txt2img")
    request = checked(with_old_hires(parsed({**fields, **more})), limits)
    check_names(request)
    return request


def _options(boxes: Mapping[str, Any], options: DrawOptions) -> dict[str, Any]:
    values = options.model_dump() | pasted_options(boxes["options_pasted"])
    if boxes["vae"] and boxes["vae"] != "Automatic":
        values["sd_vae"] = boxes["vae"]
    return values


def pasted_options(texts: list[str]) -> dict[str, Any]:
    """Options from texts `key: value`; unknown ones are left out, values are checked with the request."""
    pairs = (text.partition(": ") for text in texts)
    return {key: value for key, _, value in pairs if key in DrawOptions.model_fields}


def _variation(boxes: Mapping[str, Any]) -> dict[str, Any]:
    names = ("subseed", "subseed_strength", "seed_resize_from_w", "seed_resize_from_h")
    return {name: boxes[name] for name in names} if boxes["variation_on"] else {}


def _refiner(boxes: Mapping[str, Any]) -> dict[str, Any]:
    if not boxes["refiner_on"] or not boxes["refiner_checkpoint"]:
        return {}
    return {name: boxes[name] for name in ("refiner_checkpoint", "refiner_switch_at")}


def _hires(boxes: Mapping[str, Any]) -> dict[str, Any]:
    if not boxes["hires_on"] and not boxes["first_pass"]:
        return {}
    texts = ("upscaler", "checkpoint", "sampler", "scheduler", "prompt", "negative_prompt")
    names = (*texts, "steps", "scale", "resize_x", "resize_y")
    return {
        "hires": {name: boxes[f"hires_{name}"] for name in names} | {"first_pass": boxes["first_pass"]},
        "denoising_strength": boxes["hires_denoise"],
    }


def _image(boxes: Mapping[str, Any]) -> dict[str, Any]:
    """Image to image, or inpainting where the picture of that tab is asked for.

    Raises:
        DanqingError: `missing_picture`.
    """
    inpaint = boxes["tab"] == "inpaint"
    name = "inpaint_image" if inpaint else "init"
    pictures = boxes["inpaint_image"] if inpaint else boxes["init_sketch"] or boxes["init"]
    if not pictures:
        raise DanqingError("missing_picture", field=name)
    fields: dict[str, Any] = {
        "kind": "img2img",
        "init_images": pictures.split()[:1],
        "denoising_strength": boxes["denoise"],
        "resize_mode": boxes["resize_mode"],
    }
    if inpaint:
        fields["inpaint"] = _mask(boxes)
    return fields


def _mask(boxes: Mapping[str, Any]) -> dict[str, Any]:
    """
    Raises:
        DanqingError: `missing_picture`, when nothing was painted.
    """
    if not boxes["inpaint_mask"]:
        raise DanqingError("missing_picture", field="inpaint_mask")
    return {
        "mask": boxes["inpaint_mask"],
        "blur_x": boxes["mask_blur"],
        "blur_y": boxes["mask_blur"],
        "fill": boxes["mask_fill"],
        "only_masked": boxes["mask_area"] == 1,
        "padding": boxes["mask_padding"],
        "invert": boxes["mask_invert"] == 1,
        "soft": {name: boxes[f"soft_{name}"] for name in SOFT} if boxes["soft_on"] else None,
    }


def _extras(boxes: Mapping[str, Any], options: DrawOptions) -> dict[str, Any]:
    """
    Raises:
        DanqingError: `missing_picture`.
    """
    if not boxes["extras_images"]:
        raise DanqingError("missing_picture", field="extras_images")
    return {
        "kind": "extras",
        "init_images": boxes["extras_images"].split(),
        "options": options,
        "extras": {
            "resize_mode": boxes["extras_mode"],
            "resize": boxes["extras_resize"],
            "width": boxes["extras_width"],
            "height": boxes["extras_height"],
            "crop": boxes["extras_crop"],
            "upscaler_1": boxes["extras_upscaler_1"] or "None",
            "upscaler_2": boxes["extras_upscaler_2"] or "None",
            "upscaler_2_visibility": boxes["extras_visibility"],
            "gfpgan_visibility": boxes["extras_gfpgan"],
            "codeformer_visibility": boxes["extras_codeformer"],
            "codeformer_weight": boxes["extras_weight"],
        },
    }


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DanqingError("invalid_field", field=name, reason=type(value).__name__)
    return value


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)][:100] if isinstance(value, list) else []


def _whole(name: str, value: Any) -> int:
    if name in ("seed", "subseed") and (value is None or str(value).strip() == ""):
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
