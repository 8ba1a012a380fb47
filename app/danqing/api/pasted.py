"""A pasted infotext as fields of a request's body and as options (spec 2.5, 7.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from danqing.api.errors import ApiError
from danqing.api.options import Option
from danqing.engine.scripts.table import FILLS
from danqing.errors import DanqingError
from danqing.library.networks import Networks

Reader = Callable[[str], Any]
Readers = Mapping[str, tuple[str, Reader]]
"""Key of an infotext → name of what it fills, and how its text reads."""


FIELDS: Readers = {
    "Prompt": ("prompt", str),
    "Negative prompt": ("negative_prompt", str),
    "Steps": ("steps", int),
    "Sampler": ("sampler_name", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg_scale", float),
    "Image CFG scale": ("image_cfg_scale", float),
    "Seed": ("seed", int),
    "Size-1": ("width", int),
    "Size-2": ("height", int),
    "Variation seed": ("subseed", int),
    "Variation seed strength": ("subseed_strength", float),
    "Seed resize from-1": ("seed_resize_from_w", int),
    "Seed resize from-2": ("seed_resize_from_h", int),
    "Denoising strength": ("denoising_strength", float),
    "Eta": ("eta", float),
    "Eta DDIM": ("eta", float),
    "Hires upscale": ("hr_scale", float),
    "Hires upscaler": ("hr_upscaler", str),
    "Hires steps": ("hr_second_pass_steps", int),
    "Hires resize-1": ("hr_resize_x", int),
    "Hires resize-2": ("hr_resize_y", int),
    "Hires checkpoint": ("hr_checkpoint_name", str),
    "Hires sampler": ("hr_sampler_name", str),
    "Hires schedule type": ("hr_scheduler", str),
    "Hires prompt": ("hr_prompt", str),
    "Hires negative prompt": ("hr_negative_prompt", str),
    "Refiner": ("refiner_checkpoint", str),
    "Refiner switch at": ("refiner_switch_at", float),
    "Mask blur": ("mask_blur", int),
    "Mask mode": ("inpainting_mask_invert", lambda text: int(text == "Inpaint not masked")),
    "Inpaint area": ("inpaint_full_res", lambda text: text == "Only masked"),
    "Masked area padding": ("inpaint_full_res_padding", int),
    "Masked content": ("inpainting_fill", FILLS.index),
}
"""Key of an infotext → field of the body."""

NOT_PASTED = frozenset({"sd_model_checkpoint"})
"""Options that are ignored by default."""

WRITTEN = {"beta_dist_alpha": "Beta schedule alpha", "beta_dist_beta": "Beta schedule beta"}
"""Options that infotexts call by another name than the settings page."""

RESTORERS = ("CodeFormer", "GFPGAN")

_LORA = re.compile("<lora:([^:>]+)")


def with_local_names(pairs: Mapping[str, str], networks: Networks) -> dict[str, str]:
    """The pairs with the prompt's LoRAs by the names that they have here: a text's hashes say which is which."""
    rows = (row.partition(":") for row in pairs.get("Lora hashes", "").split(","))
    digits = {name.strip(): row.strip() for name, _, row in rows if row}
    if not digits:
        return dict(pairs)

    def local(match: re.Match[str]) -> str:
        network = networks.by_hash(digits.get(match[1], ""))
        if network is None:
            return match[0]
        found = networks.find("lora", network.alias)
        return f"<lora:{network.alias if found == network else network.name}"

    prompts = {key: _LORA.sub(local, pairs[key]) for key in ("Prompt", "Hires prompt") if key in pairs}
    return {**pairs, **prompts}


def read(pairs: Mapping[str, str], readers: Readers) -> dict[str, Any]:
    """What parsed pairs fill; what does not read as its type is left out."""
    found: dict[str, Any] = {}
    for key, (name, reader) in readers.items():
        if key in pairs:
            try:
                found[name] = reader(pairs[key])
            except ValueError:
                continue
    return found


def asks_hires(pairs: Mapping[str, str]) -> bool:
    """Whether the text was drawn with hires fix."""
    return bool({"Hires upscale", "Hires upscaler"} & pairs.keys()) or pairs.get("Hires resize-1", "0") != "0"


def body_fields(pairs: Mapping[str, str]) -> dict[str, Any]:
    """Fields from parsed pairs; what does not read as its type is left out."""
    found = read(pairs, FIELDS)
    if "Denoising strength" in pairs and asks_hires(pairs):
        found["enable_hr"] = True
    return found


def overrides(pairs: Mapping[str, str], table: Mapping[str, Option]) -> dict[str, Any]:
    """Options that the text names by their labels. A text without RNG was drawn with a GPU's numbers."""
    found: dict[str, Any] = {}
    for option in table.values():
        text = pairs.get(WRITTEN.get(option.key, option.label)) if option.label else None
        if text is None or option.key in NOT_PASTED or option.restricted:
            continue
        kind = type(option.default)
        try:
            value = text != "False" if kind is bool else kind(text) if kind in (int, float) else text
            found[option.key] = option.checked(value)
        except (ValueError, DanqingError, ApiError):
            continue
    if pairs.get("Face restoration") in RESTORERS:
        found["face_restoration_model"] = pairs["Face restoration"]
    return found
