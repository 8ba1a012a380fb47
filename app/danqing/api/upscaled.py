"""The extras routes: pictures made larger, faces mended."""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from danqing.api import images
from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.api.fields import ExtrasBatch, ExtrasSingle, Upscaling
from danqing.api.remote import is_address
from danqing.api.translate import keep_image
from danqing.api.waiting import finished
from danqing.errors import DanqingError
from danqing.gallery import infotext
from danqing.jobs.model import Job
from danqing.request import GenerateRequest, checked, parsed
from danqing.upscale import catalog


class Upscaled:
    """POST extra-single-image, POST extra-batch-images."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def single(self, request: Request, fields: ExtrasSingle) -> Response:
        """One picture."""
        job = await self._done(request, fields, [fields.image])
        html, pictures = await asyncio.to_thread(self._told, job, request, [fields.image])
        return SafeJson({"html_info": html, "image": pictures[0] if pictures else ""})

    async def batch(self, request: Request, fields: ExtrasBatch) -> Response:
        """Several pictures, in order."""
        job = await self._done(request, fields, [file.data for file in fields.imageList])
        texts = [file.data for file in fields.imageList]
        html, pictures = await asyncio.to_thread(self._told, job, request, texts)
        return SafeJson({"html_info": html, "images": pictures})

    async def _done(self, request: Request, fields: Upscaling, texts: list[str]) -> Job:
        context = self._context
        wanted = await asyncio.to_thread(upscale_request, fields, texts, context.client(request), context)
        job = await context.service.submit(
            wanted, owner=context.owner(request), client=context.client(request), save=False
        )
        context.tell_job(request, job.id)
        return await finished(context, job)

    def _told(self, job: Job, request: Request, sources: list[str]) -> tuple[str, list[str]]:
        """The line of parameters as HTML, and the pictures in base64: what a source told of itself stays in them."""
        context = self._context
        pictures = [context.service.gallery.get(picture) for picture in job.pictures]
        line = infotext.of_extras(pictures[0].infotext) if pictures else ""
        options = context.options.of(context.client(request))
        encoded = []
        for one, source in zip(pictures, sources, strict=False):
            told = "" if is_address(source) else infotext.read_image(images.decode(source))[0]
            texts = {**({"parameters": told} if told else {}), "postprocessing": line}
            png = images.with_texts(one.path.read_bytes(), texts)
            encoded.append(images.encode(png, told or line, options, context.service.gallery.labels))
        return f"<p>{escape(line)}</p>", encoded


def upscale_request(fields: Upscaling, texts: list[str], client: str, context: Context) -> GenerateRequest:
    """The checked request. Stores pictures, and so belongs into a thread.

    Raises:
        DanqingError: `missing_picture`, `too_many_images`, `unknown_upscaler`, `upscaler_missing` or what does not fit.
    """
    if not texts:
        raise DanqingError("missing_picture", field="imageList")
    limit = context.settings.get_int("limit_images")
    if len(texts) > limit:
        raise DanqingError("too_many_images", count=len(texts), maximum=limit)
    for name in (fields.upscaler_1, fields.upscaler_2):
        catalog.find(context.logins.data, name or "None")
    options = context.options.of(client)
    values: dict[str, Any] = {
        "kind": "extras",
        "init_images": [keep_image(text, context) for text in texts],
        "extras": {
            "resize_mode": fields.resize_mode,
            "resize": fields.upscaling_resize,
            "width": fields.upscaling_resize_w,
            "height": fields.upscaling_resize_h,
            "crop": fields.upscaling_crop is not False,
            "upscaler_1": fields.upscaler_1 or "None",
            "upscaler_2": fields.upscaler_2 or "None",
            "upscaler_2_visibility": fields.extras_upscaler_2_visibility,
            "gfpgan_visibility": fields.gfpgan_visibility,
            "codeformer_visibility": fields.codeformer_visibility,
            "codeformer_weight": fields.codeformer_weight,
            "upscale_first": bool(fields.upscale_first),
        },
        "options": {key: options[key] for key in ("ESRGAN_tile", "ESRGAN_tile_overlap")},
    }
    return checked(parsed(values), context.settings)
