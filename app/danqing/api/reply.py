"""The answer of txt2img: pictures, the request as it was understood, and `info`, a JSON text."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

from danqing.api import images
from danqing.api.context import Context
from danqing.api.fields import Txt2Img
from danqing.errors import DanqingError
from danqing.gallery.infotext import VERSION
from danqing.gallery.store import Picture
from danqing.jobs.model import Job
from danqing.request import RANDOM_SEED_MAX


def reply(fields: Txt2Img, job: Job, context: Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """The whole answer for a finished job. Reads files and so belongs into a thread.

    Args:
        options: of the client, without the overrides of the request: those end with the drawing.
    """
    pictures = [context.service.gallery.get(picture) for picture in job.pictures]
    texts = [picture.infotext for picture in pictures]
    sheet = bool(fields.save_images) and options["return_grid"] and len(pictures) > 1
    encoded: list[str] = []
    if fields.send_images is not False:
        pngs = [picture.path.read_bytes() for picture in pictures]
        if sheet:
            drawn = images.grid(pngs, job.request.batch_size, texts[0], options)
            encoded.append(images.encode(drawn, texts[0], options))
        encoded += [images.encode(png, text, options) for png, text in zip(pngs, texts, strict=True)]
    told = info(fields, job, pictures, context)
    told["index_of_first_image"] = int(sheet)
    told["infotexts"] = ([texts[0]] if sheet else []) + texts
    return {"images": encoded, "parameters": fields.model_dump(), "info": json.dumps(told, ensure_ascii=False)}


def info(fields: Txt2Img, job: Job, pictures: list[Picture], context: Context) -> dict[str, Any]:
    """What was drawn, in the WebUI's keys and order."""
    request, count = job.request, job.request.image_count
    subseed = fields.subseed if fields.subseed is not None else -1
    if subseed < 0:
        subseed = random.randint(0, RANDOM_SEED_MAX)
    name, short = model_of(context, request.model)
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * count,
        "seed": request.seed,
        "all_seeds": [request.seed + place for place in range(count)],
        "subseed": subseed,
        "all_subseeds": [subseed + place for place in range(count)],
        "subseed_strength": fields.subseed_strength or 0,
        "width": request.width,
        "height": request.height,
        "sampler_name": request.sampler,
        "cfg_scale": request.cfg_scale,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": name,
        "sd_model_hash": short,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": fields.seed_resize_from_w,
        "seed_resize_from_h": fields.seed_resize_from_h,
        "denoising_strength": fields.denoising_strength,
        "extra_generation_params": {} if request.eta is None else {"Eta": request.eta},
        "index_of_first_image": 0,
        "infotexts": [],
        "styles": list(fields.styles or ()),
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(job.started or job.created)),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": VERSION,
    }


def model_of(context: Context, name: str) -> tuple[str, str | None]:
    """A model's short name and the first ten digits of its hash; the name alone when its file has gone meanwhile."""
    try:
        checkpoint = context.library.resolve(name)
    except DanqingError:
        return name, None
    return checkpoint.base, checkpoint.hash10
