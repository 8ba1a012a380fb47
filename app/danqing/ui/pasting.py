"""An infotext into the boxes: everything that it says and the page has a box for (spec 7.3, 19.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from danqing.api.options import Option
from danqing.api.pasted import Readers, asks_hires, overrides, read
from danqing.engine.scripts.table import FILLS
from danqing.options import DrawOptions
from danqing.prompt.styles import Style, extract_styles

FIELDS: Readers = {
    "Prompt": ("prompt", str),
    "Negative prompt": ("negative_prompt", str),
    "Steps": ("steps", int),
    "Sampler": ("sampler", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg_scale", float),
    "Seed": ("seed", lambda text: str(int(text))),
    "Size-1": ("width", int),
    "Size-2": ("height", int),
    "Clip skip": ("clip_skip", int),
    "VAE": ("vae", str),
    "Variation seed": ("subseed", lambda text: str(int(text))),
    "Variation seed strength": ("subseed_strength", float),
    "Seed resize from-1": ("seed_resize_from_w", int),
    "Seed resize from-2": ("seed_resize_from_h", int),
    "Hires upscale": ("hires_scale", float),
    "Hires upscaler": ("hires_upscaler", str),
    "Hires steps": ("hires_steps", int),
    "Hires resize-1": ("hires_resize_x", int),
    "Hires resize-2": ("hires_resize_y", int),
    "Hires checkpoint": ("hires_checkpoint", lambda text: "" if text == "Use same checkpoint" else text),
    "Hires sampler": ("hires_sampler", lambda text: "" if text == "Use same sampler" else text),
    "Hires schedule type": ("hires_scheduler", lambda text: "" if text == "Use same scheduler" else text),
    "Hires prompt": ("hires_prompt", str),
    "Hires negative prompt": ("hires_negative_prompt", str),
    "NGMS": ("s_min_uncond", float),
    "Refiner": ("refiner_checkpoint", str),
    "Refiner switch at": ("refiner_switch_at", float),
    "Mask blur": ("mask_blur", int),
    "Mask mode": ("mask_invert", lambda text: int(text == "Inpaint not masked")),
    "Inpaint area": ("mask_area", lambda text: int(text == "Only masked")),
    "Masked area padding": ("mask_padding", int),
    "Masked content": ("mask_fill", FILLS.index),
}
"""Key of an infotext → box."""

OWN = frozenset({"CLIP_stop_at_last_layers", "sd_vae", "tiling", "randn_source", "s_min_uncond"})
"""Options that have boxes of their own or are no option of drawing here."""


def boxes_of(pairs: Mapping[str, str], options: Mapping[str, Option]) -> dict[str, Any]:
    """Values of boxes from parsed pairs; what does not read as its type is left out.

    Args:
        options: the table of the WebUI's options, whose labels a text may name.
    """
    found = read(pairs, FIELDS) | _switches(pairs)
    told = {key: value for key, value in overrides(pairs, options).items() if key not in OWN}
    usual = DrawOptions().model_dump()
    found["options_pasted"] = [f"{key}: {value}" for key, value in told.items() if value != usual.get(key, value)]
    return found


def styles_found(boxes: Mapping[str, Any], known: Iterable[Style], how: str) -> dict[str, Any]:
    """The prompts without the styles that are in them, and those styles chosen.

    Args:
        how: the option `infotext_styles`: "Ignore" changes nothing, "Discard" leaves the chosen styles as they are, "Apply"
            chooses those found even if there are none, "Apply if any" only if there are.
    """
    if how == "Ignore" or "prompt" not in boxes:
        return {}
    names, prompt, negative = extract_styles(boxes["prompt"], boxes.get("negative_prompt", ""), known)
    found = {"prompt": prompt, "negative_prompt": negative} if names else {}
    return found | ({"styles": names} if how == "Apply" or (names and how != "Discard") else {})


def _switches(pairs: Mapping[str, str]) -> dict[str, Any]:
    hires = asks_hires(pairs)
    found: dict[str, Any] = {
        "hires_on": hires,
        "refiner_on": "Refiner" in pairs,
        "variation_on": bool({"Variation seed", "Seed resize from-1"} & pairs.keys()),
        "tiling": pairs.get("Tiling") == "True",
        "restore_faces": "Face restoration" in pairs,
    }
    try:
        strength = float(pairs["Denoising strength"])
    except (KeyError, ValueError):
        return found
    return {**found, "hires_denoise" if hires else "denoise": strength}
