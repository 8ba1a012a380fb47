"""The answer of txt2img: pictures, the request as it was understood, and `info`, a JSON text."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from danqing.api import images
from danqing.api.context import Context
from danqing.api.fields import Drawing, Img2Img
from danqing.errors import DanqingError
from danqing.gallery import infotext
from danqing.gallery.infotext import VERSION
from danqing.gallery.store import Picture
from danqing.jobs.model import Job
from danqing.request import GenerateRequest

OF_SHEETS = ("return_grid", "n_rows", "grid_background_color")
"""Options that are obeyed while the WebUI draws."""


def reply(fields: Drawing, job: Job, context: Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """The whole answer for a finished job. Reads files and so belongs into a thread.

    Args:
        options: of the client, without the overrides of the request: those end with the drawing, to which sheets belong.
    """
    overrides = fields.override_settings or {}
    sheets = {**options, **{key: overrides[key] for key in OF_SHEETS if overrides.get(key) is not None}}
    pictures = [context.service.gallery.get(picture) for picture in job.pictures]
    texts = [picture.infotext for picture in pictures if picture.infotext]
    # Masks and control maps carry no text; a script has made its own grid.
    plain = len(texts) == len(pictures) and job.request.script is None
    sheet = plain and bool(fields.save_images) and sheets["return_grid"] and len(pictures) > 1
    encoded: list[str] = []
    if fields.send_images is not False:
        pngs, labels = [picture.path.read_bytes() for picture in pictures], context.service.gallery.labels
        if sheet:
            drawn = images.grid(pngs, job.request.batch_size, texts[0], sheets)
            encoded.append(images.encode(drawn, texts[0], options, labels))
        encoded += [images.encode(png, one.infotext, options, labels) for png, one in zip(pngs, pictures, strict=True)]
    told = info(fields, job, pictures, context)
    told["index_of_first_image"] = int(sheet)
    told["infotexts"] = ([texts[0]] if sheet else []) + texts
    return {"images": encoded, "parameters": echoed(fields), "info": json.dumps(told, ensure_ascii=False)}


def echoed(fields: Drawing) -> dict[str, Any]:
    """The request as it was understood; pictures only where they were asked for."""
    values = fields.model_dump()
    if isinstance(fields, Img2Img):
        if not fields.include_init_images:
            values["init_images"] = values["mask"] = None
        values.pop("include_init_images")
    return values


def info(fields: Drawing, job: Job, pictures: list[Picture], context: Context) -> dict[str, Any]:
    """What was drawn, in the WebUI's keys and order."""
    request = job.request
    shown = [picture for picture in pictures if picture.infotext]
    count = max(len(shown), 1) if request.script is not None else request.image_count
    pairs = infotext.parse(shown[0].infotext, fill=False) if shown else {}
    varied = request.subseed_strength > 0
    name, short = model_of(context, request.model)
    strength = request.denoising_strength if request.kind == "img2img" or request.hires is not None else None
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * count,
        "seed": request.seed,
        "all_seeds": [request.seed + (0 if varied else place) for place in range(count)],
        "subseed": request.subseed,
        "all_subseeds": [request.subseed + place for place in range(count)],
        "subseed_strength": request.subseed_strength or 0,
        "width": request.width,
        "height": request.height,
        "sampler_name": request.sampler,
        "cfg_scale": request.cfg_scale,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "restore_faces": request.restore_faces,
        "face_restoration_model": request.options.face_restoration_model if request.restore_faces else None,
        "sd_model_name": name,
        "sd_model_hash": short,
        "sd_vae_name": pairs.get("VAE"),
        "sd_vae_hash": pairs.get("VAE hash"),
        "seed_resize_from_w": fields.seed_resize_from_w,
        "seed_resize_from_h": fields.seed_resize_from_h,
        "denoising_strength": strength,
        "extra_generation_params": extra_params(request, pairs, strength),
        "index_of_first_image": 0,
        "infotexts": [],
        "styles": fields.styles or [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(job.started or job.created)),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": "Conditional mask weight" in pairs,
        "version": VERSION,
    }


def extra_params(request: GenerateRequest, pairs: Mapping[str, str], strength: float | None) -> dict[str, Any]:
    """The infotext's keys that have no fixed place in it, with the strength that the WebUI counts among them."""
    found: dict[str, Any] = {} if strength is None else {"Denoising strength": strength}
    if request.hires is not None:
        found |= {"Hires prompt": None, "Hires negative prompt": None, "Hires schedule type": None}
    skipped = {*infotext.ORDER, "Prompt", "Negative prompt", "Size-1", "Size-2", "Version", "User"}
    skipped |= {"Seed resize from-1", "Seed resize from-2", "Hires resize-1", "Hires resize-2"}
    if "Hires resize-1" in pairs:
        found["Hires resize"] = f"{pairs['Hires resize-1']}x{pairs['Hires resize-2']}"
    return found | {key: _value(text) for key, text in pairs.items() if key not in skipped}


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def model_of(context: Context, name: str) -> tuple[str, str | None]:
    """A model's short name and the first ten digits of its hash; the name alone when its file has gone meanwhile."""
    try:
        checkpoint = context.library.resolve(name)
    except DanqingError:
        return name, None
    return checkpoint.base, checkpoint.hash10
