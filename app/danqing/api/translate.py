"""From the WebUI's fields and a client's options to a `GenerateRequest`.

What the WebUI falls back on silently (unknown sampler, unknown schedule, unknown model in override_settings, odd sizes) is
kept. What would change the picture and cannot be done in this version is refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.api.context import Context
from danqing.api.errors import ApiError
from danqing.api.fields import NOT_NULL, Txt2Img
from danqing.api.styles import read_styles
from danqing.engine import catalog
from danqing.errors import DanqingError
from danqing.gallery import infotext
from danqing.request import GenerateRequest, checked, parsed

SAMPLERS_TO_COME = (
    "DPM++ SDE",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Heun",
    "DPM++ 2S a",
    "DPM++ 3M SDE",
    "DPM2",
    "DPM2 a",
    "DPM fast",
    "DPM adaptive",
    "Restart",
    "DDIM CFG++",
    "PLMS",
    "LCM",
)
"""Samplers of the WebUI that are refused by name while they are missing: another one would draw another picture."""

CHURNED = frozenset({"Euler", "Heun", "DPM2"})
"""Samplers that s_churn and its siblings change."""

NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^>]+>")

FROM_INFOTEXT = {"sampler": "sampler_name"}
"""Fields of a request that the WebUI calls otherwise."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a body asks for: its fields with those of its infotext, the request, and the overrides that are to stay."""

    fields: Txt2Img
    request: GenerateRequest
    staying: Mapping[str, Any]


def wish(fields: Txt2Img, context: Context, client: str) -> Wish:
    """The checked request. Reads the disk (styles, checkpoints) and so belongs into a thread.

    Raises:
        DanqingError: a field that does not fit or cannot be done; `ApiError`: as the WebUI words it.
    """
    fields = with_infotext(fields)
    for name in NOT_NULL:
        if getattr(fields, name) is None:
            raise DanqingError("invalid_field", field=name, reason="must not be null")
    overrides = context.options.checked(fields.override_settings or {})
    own = context.options.of(client)
    options = {**own, **overrides}
    refuse(fields, context)
    refuse_vae(str(options["sd_vae"]), context.logins.data)
    own_model = str(own["sd_model_checkpoint"] or "")
    model = model_of(context, str(overrides.get("sd_model_checkpoint") or ""), own_model)
    if model is None:
        del overrides["sd_model_checkpoint"]
        model = model_of(context, "", own_model) or ""
    request = checked(request_of(fields, options, model), context.settings)
    catalog.check_names(request)
    return Wish(fields, request, {} if fields.override_settings_restore_afterwards is not False else overrides)


def request_of(fields: Txt2Img, options: Mapping[str, Any], model: str) -> GenerateRequest:
    """The request, names resolved as the WebUI does it, bounds not yet checked."""
    name = fields.sampler_name or fields.sampler_index or ""
    for missing in SAMPLERS_TO_COME:
        if missing not in catalog.sampler_names() and (name == missing or name.startswith(missing + " ")):
            raise DanqingError("not_available", feature=f"sampler {missing}")
    sampler, scheduler = catalog.split_sampler(name, fields.scheduler)
    if sampler in CHURNED and (fields.s_churn or 0) > 0:
        raise DanqingError("not_available", feature="s_churn")
    return parsed(
        {
            "prompt": fields.prompt,
            "negative_prompt": fields.negative_prompt,
            "sampler": sampler,
            "scheduler": scheduler,
            "steps": fields.steps,
            "cfg_scale": fields.cfg_scale,
            "width": fields.width,
            "height": fields.height,
            "seed": -1 if fields.seed is None else fields.seed,
            "batch_size": fields.batch_size,
            "n_iter": fields.n_iter,
            "model": model,
            "clip_skip": options["CLIP_stop_at_last_layers"],
            "eta": eta_of(fields, options, sampler),
            "rng": options["randn_source"],
        }
    )


def eta_of(fields: Txt2Img, options: Mapping[str, Any], sampler: str) -> float | None:
    """The request's eta, else the option's where it is not the default."""
    if fields.eta is not None:
        return fields.eta
    timesteps = catalog.sampler(sampler).family is catalog.Family.TIMESTEP
    value, usual = (options["eta_ddim"], 0.0) if timesteps else (options["eta_ancestral"], 1.0)
    return None if value == usual else float(value)


def model_of(context: Context, name: str, own: str) -> str | None:
    """The name of the checkpoint that is wanted; None for an override that names none.

    Args:
        name: of the override, "" for none.
        own: what the client has set, "" for the default.
    """
    try:
        return context.library.resolve(name or own).name
    except DanqingError as error:
        # The WebUI goes on with the model that is loaded.
        if name and error.code == "unknown_model":
            return None
        raise


def with_infotext(fields: Txt2Img) -> Txt2Img:
    """The fields that the `infotext` field gives, where the body has none of its own."""
    if not fields.infotext:
        return fields
    pairs = infotext.parse(fields.infotext)
    found = infotext.to_request_fields(pairs)
    values = {FROM_INFOTEXT.get(name, name): value for name, value in found.items()}
    overrides = {"CLIP_stop_at_last_layers": values.pop("clip_skip", 1), "randn_source": pairs.get("RNG", "GPU")}
    update = {name: value for name, value in values.items() if name not in fields.model_fields_set}
    update["override_settings"] = {**overrides, **(fields.override_settings or {})}
    return fields.model_copy(update=update)


def refuse(fields: Txt2Img, context: Context) -> None:
    """Refuse what would change the picture and is not there yet.

    Raises:
        DanqingError: `not_available`.
        ApiError: scripts, in the WebUI's words.
    """
    if fields.script_name and fields.script_name.lower() != "none":
        raise ApiError(422, "HTTPException", f"Script '{fields.script_name[:200]}' not found")
    for title in fields.alwayson_scripts or {}:
        raise ApiError(422, "HTTPException", f"Script '{title[:200]}' not found")
    refiner = fields.refiner_checkpoint not in (None, "", "None") and (fields.refiner_switch_at or 1) < 1
    wanted = {
        "enable_hr": fields.enable_hr,
        "subseed_strength": (fields.subseed_strength or 0) > 0,
        "seed_resize_from_w, seed_resize_from_h": (fields.seed_resize_from_w or 0) > 0
        and (fields.seed_resize_from_h or 0) > 0,
        "restore_faces": fields.restore_faces,
        "tiling": fields.tiling,
        "refiner_checkpoint": refiner,
        "s_min_uncond": (fields.s_min_uncond or 0) > 0,
        "styles": known_styles(fields, context.logins.data),
        "<lora:...>, <hypernet:...>": NETWORK.search(fields.prompt or ""),
    }
    for feature, present in wanted.items():
        if present:
            raise DanqingError("not_available", feature=feature)


def known_styles(fields: Txt2Img, data: Path) -> set[str]:
    """The styles of the request that are in the styles file; unknown ones have no effect."""
    return {style.name for style in read_styles(data)} & set(fields.styles) if fields.styles else set()


def refuse_vae(name: str, data: Path) -> None:
    """Refuse a VAE of its own; a name that no file has is ignored, as the WebUI does.

    Raises:
        DanqingError: `not_available`.
    """
    folder = data / "models" / "VAE"
    if name not in ("Automatic", "None", "") and any(name in (p.name, p.stem) for p in folder.glob("**/*.*")):
        raise DanqingError("not_available", feature="sd_vae")
