"""From the WebUI's fields and a client's options to a `GenerateRequest`.

What the WebUI falls back on silently (unknown sampler, unknown schedule, unknown model in override_settings, odd sizes) is
kept. What would change the picture and cannot be done is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from danqing.api import images, pasted
from danqing.api.context import Context, user_of
from danqing.api.control_units import control_units
from danqing.api.drawing_options import drawing_options
from danqing.api.errors import ApiError
from danqing.api.fields import NOT_NULL, Drawing, Img2Img, Txt2Img
from danqing.api.script_args import pictures_of, plugin_arguments, selected_script, soft_inpainting
from danqing.engine import catalog
from danqing.errors import DanqingError
from danqing.gallery import infotext, inputs
from danqing.gallery.store import check_room
from danqing.library.networks import Networks
from danqing.prompt.styles import for_script, styled, styles_of
from danqing.request import GenerateRequest, checked, parsed, with_old_hires
from danqing.upscale import catalog as upscalers


@dataclass(frozen=True, slots=True)
class Wish:
    """What a body asks for: its fields with those of its infotext, the request, and the overrides that are to stay."""

    fields: Drawing
    request: GenerateRequest
    staying: Mapping[str, Any]
    styles: tuple[str, ...] = ()


def wish(fields: Drawing, context: Context, client: str) -> Wish:
    """The checked request. Reads the disk (styles, checkpoints), stores pictures, and so belongs into a thread.

    Raises:
        DanqingError: a field that does not fit or cannot be done; `ApiError`: as the WebUI words it.
    """
    fields = with_infotext(fields, context)
    for name in NOT_NULL:
        if getattr(fields, name) is None:
            raise DanqingError("invalid_field", field=name, reason="must not be null")
    overrides = context.options.checked(fields.override_settings or {})
    own = context.options.of(client)
    options = {**own, **overrides}
    own_model = str(own["sd_model_checkpoint"] or "")
    model = model_of(context, str(overrides.get("sd_model_checkpoint") or ""), own_model)
    if model is None:
        del overrides["sd_model_checkpoint"]
        model = model_of(context, "", own_model) or ""
    request = checked(request_of(fields, options, model, context, user_of(client)), context.settings)
    catalog.check_names(request)
    count, most = pictures_of(request), context.settings.get_int("limit_images")
    if count > most:
        raise DanqingError("too_many_images", count=count, maximum=most)
    staying = {} if fields.override_settings_restore_afterwards is not False else overrides
    return Wish(fields, request, staying)


def request_of(
    fields: Drawing, options: Mapping[str, Any], model: str, context: Context, owner: str = ""
) -> GenerateRequest:
    """The request, names resolved as the WebUI does it, bounds not yet checked."""
    sampler, scheduler = catalog.split_sampler(fields.sampler_name or fields.sampler_index or "", fields.scheduler)
    prompt, negative = fields.prompt or "", fields.negative_prompt or ""
    script = selected_script(fields, context)
    if script is None:
        prompt, negative = with_styles(fields, prompt, negative, context, owner)
    else:
        script |= for_script(script["args"], fields.styles or (), styles_of(context.logins.data, owner))
    values: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": negative,
        "sampler": sampler,
        "scheduler": scheduler,
        "steps": fields.steps,
        "cfg_scale": fields.cfg_scale,
        "width": fields.width,
        "height": fields.height,
        "seed": _seed(fields.seed),
        "batch_size": fields.batch_size,
        "n_iter": fields.n_iter,
        "model": model,
        "clip_skip": options["CLIP_stop_at_last_layers"],
        "eta": fields.eta,
        "rng": options["randn_source"],
        "subseed": _seed(fields.subseed),
        "subseed_strength": fields.subseed_strength or 0.0,
        "seed_resize_from_w": max(0, fields.seed_resize_from_w or 0),
        "seed_resize_from_h": max(0, fields.seed_resize_from_h or 0),
        "tiling": bool(options["tiling"] if fields.tiling is None else fields.tiling),
        "restore_faces": bool(options["face_restoration"] if fields.restore_faces is None else fields.restore_faces),
        "disable_extra_networks": bool(fields.disable_extra_networks),
        "s_min_uncond": options["s_min_uncond"] if fields.s_min_uncond is None else fields.s_min_uncond,
        **{name: getattr(fields, name) for name in ("s_churn", "s_tmin", "s_tmax", "s_noise")},
        **refiner(fields, context),
        "denoising_strength": fields.denoising_strength,
        "script": script,
        "plugins": plugin_arguments(fields),
        "control": control_units(fields, context, maps=not options["control_net_no_detectmap"]),
        "options": drawing_options(options),
    }
    if isinstance(fields, Img2Img):
        values |= image_fields(fields, values, context)
    elif isinstance(fields, Txt2Img) and fields.enable_hr:
        values |= hires_fields(fields, context, owner)
    return with_old_hires(parsed(values))


def _seed(seed: int | None) -> int:
    return -1 if seed is None or seed < 0 else seed


def refiner(fields: Drawing, context: Context) -> dict[str, Any]:
    """The refiner's checkpoint and when it takes over.

    Raises:
        DanqingError: `unknown_model`.
    """
    name, at = fields.refiner_checkpoint, fields.refiner_switch_at
    if name in (None, "", "None") or (at is not None and at >= 1):
        return {}
    # Without a share the refiner takes over at once, as in the WebUI.
    return {"refiner_checkpoint": context.library.closest(str(name)).name, "refiner_switch_at": max(0.0, at or 0.0)}


def hires_fields(fields: Txt2Img, context: Context, owner: str) -> dict[str, Any]:
    """Hires fix. The old first-pass size is the first pass's size, and the scale counts from there."""
    if fields.denoising_strength is None:
        raise DanqingError("invalid_field", field="denoising_strength", reason="hires fix needs one, 0 to 1")
    sampler, scheduler = "", fields.hr_scheduler or ""
    if fields.hr_sampler_name not in (None, "", "Use same sampler"):
        sampler, found = catalog.cut_schedule(str(fields.hr_sampler_name))
        sampler, scheduler = catalog.sampler(sampler).name, scheduler or found
    checkpoint = fields.hr_checkpoint_name
    prompt, _ = with_styles(fields, fields.hr_prompt, "", context, owner) if fields.hr_prompt else ("", "")
    _, negative = (
        with_styles(fields, "", fields.hr_negative_prompt, context, owner) if fields.hr_negative_prompt else ("", "")
    )
    values: dict[str, Any] = {
        "hires": {
            "scale": 2.0 if fields.hr_scale is None else fields.hr_scale,
            "resize_x": fields.hr_resize_x or 0,
            "resize_y": fields.hr_resize_y or 0,
            "upscaler": fields.hr_upscaler or "",
            "steps": fields.hr_second_pass_steps or 0,
            "checkpoint": context.library.closest(str(checkpoint)).name
            if checkpoint not in (None, "", "None", "Use same checkpoint")
            else "",
            "sampler": sampler,
            "scheduler": "" if scheduler == "Use same scheduler" else scheduler,
            "prompt": prompt,
            "negative_prompt": negative,
            "first_pass": keep_image(fields.firstpass_image, context) if fields.firstpass_image else "",
        }
    }
    if values["hires"]["upscaler"] not in ("", *upscalers.LATENT_MODES):
        upscalers.find(context.logins.data, values["hires"]["upscaler"])
    if fields.firstphase_width or fields.firstphase_height:
        values |= {"width": fields.firstphase_width, "height": fields.firstphase_height}
    return values


def image_fields(fields: Img2Img, common: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Image to image and inpainting.

    Raises:
        ApiError: 404 without a picture, as the WebUI answers.
    """
    if not fields.init_images:
        raise ApiError(404, "HTTPException", "Init image not found")
    names = tuple(keep_image(picture_text(one), context) for one in fields.init_images)
    values: dict[str, Any] = {
        "kind": "img2img",
        "init_images": names,
        "resize_mode": fields.resize_mode or 0,
        "image_cfg_scale": 1.0 if fields.image_cfg_scale is None else fields.image_cfg_scale,
        "denoising_strength": 0.75 if fields.denoising_strength is None else fields.denoising_strength,
    }
    if len(names) > 1:
        size = common["batch_size"]
        if len(names) > size:
            raise DanqingError("invalid_field", field="init_images", reason=f"more than batch_size ({size})")
        values["batch_size"] = len(names)
    if fields.initial_noise_multiplier is not None:
        options = common["options"].model_dump() | {"initial_noise_multiplier": fields.initial_noise_multiplier}
        values["options"] = options
    if fields.mask:
        blur = fields.mask_blur
        values["inpaint"] = {
            "mask": keep_image(fields.mask, context),
            "latent_mask": keep_image(fields.latent_mask, context) if fields.latent_mask else "",
            "blur_x": (4 if fields.mask_blur_x is None else fields.mask_blur_x) if blur is None else blur,
            "blur_y": (4 if fields.mask_blur_y is None else fields.mask_blur_y) if blur is None else blur,
            "round": fields.mask_round is not False,
            "fill": fields.inpainting_fill or 0,
            "only_masked": bool(fields.inpaint_full_res),
            "padding": fields.inpaint_full_res_padding or 0,
            "invert": bool(fields.inpainting_mask_invert),
            "soft": soft_inpainting(fields),
        }
    return values


def picture_text(one: Any) -> str:
    """The base64 text of an entry of `init_images`: a text, or an object that holds one."""
    if isinstance(one, Mapping):
        one = one.get("image") or one.get("data")
    if not isinstance(one, str):
        raise DanqingError("invalid_field", field="init_images", reason="base64 texts")
    return one


def keep_image(text: str, context: Context) -> str:
    """Store a base64 picture; its name.

    Raises:
        ApiError: in the WebUI's words, for what is no picture.
        DanqingError: `broken_image`, of too many pixels; `disk_full`.
    """
    limit = context.settings.get_int("limit_upload_pixels")
    check_room(context.logins.data, context.settings.get_int("disk_reserve_mb"))
    try:
        return inputs.keep(
            context.logins.data, images.decode(text, urls=context.settings.get_bool("url_inputs")), limit
        )
    except DanqingError as error:
        if error.code == "broken_image" and "pixels" not in str(error):
            raise ApiError(422, "HTTPException", "Invalid encoded image") from None
        raise


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


def with_styles(
    fields: Drawing, prompt: str | None, negative: str | None, context: Context, owner: str
) -> tuple[str, str]:
    """Both prompts with the request's styles; names that neither the house nor the owner has have no effect."""
    if not fields.styles:
        return prompt or "", negative or ""
    limit = context.settings.get_int("limit_prompt")
    return styled(prompt or "", negative or "", fields.styles, styles_of(context.logins.data, owner), limit)


def with_infotext(fields: Drawing, context: Context) -> Drawing:
    """The fields that the `infotext` field gives, where the body has none of its own."""
    if not fields.infotext:
        return fields
    pairs = pasted.with_local_names(infotext.parse(fields.infotext), Networks(context.logins.data))
    known = type(fields).model_fields
    update = {
        name: value
        for name, value in pasted.body_fields(pairs).items()
        if name in known and name not in fields.model_fields_set
    }
    options = pasted.overrides(pairs, context.options.table)
    update["override_settings"] = {**options, **(fields.override_settings or {})}
    return fields.model_copy(update=update)
