"""/v1/images: the dialect of the OpenAI API (https://platform.openai.com/docs/api-reference/images), and /v1/models."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from danqing.api import images
from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import ApiError, SafeJson, in_dialect, language_of_request
from danqing.api.fields import Drawing, Img2Img, Txt2Img, example
from danqing.api.translate import wish
from danqing.api.waiting import finished
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.gallery.store import Picture
from danqing.jobs.model import Job
from danqing.library.index import Checkpoint

ELSEWHERE = re.compile(r"(dall-e|gpt-image|chatgpt-image|gpt-)[\w.-]*")
"""Names of models that programs send because they know no other: the client's own model draws."""

STEPS = {"low": 12, "medium": 20, "standard": 20, "auto": 20, "high": 35, "hd": 35, "xhigh": 50, "max": 50}
"""Sampling steps by quality."""

BASE64_ONLY = ("gpt-image", "chatgpt-image")
"""Models of the dialect whose answers hold base64 and no addresses."""

FILES_LIMIT = 16

NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""Nothing is counted here; programs of the dialect read the fields."""

EDIT_STRENGTH, VARIATION_STRENGTH = 0.75, 0.6


class ImageWish(BaseModel):
    """What the three routes have in common; fields of the WebUI beside those of the dialect are obeyed."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = ""
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=256)] | None = 1
    size: str | None = None
    quality: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    stream: bool | None = False
    user: str | None = None

    negative_prompt: str | None = ""
    seed: int | None = -1
    steps: int | None = None
    cfg_scale: float | None = 7.0
    sampler_name: str | None = None
    denoising_strength: float | None = None


class Generation(ImageWish):
    """Body of POST /v1/images/generations."""

    model_config = example({"prompt": "a red circle", "n": 1, "size": "64x64", "response_format": "b64_json"})

    prompt: str


class OpenAiRoute(StrictRoute):
    """A route whose errors have the dialect's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def shaped(request: Request) -> Response:
            try:
                return await handler(request)
            except DanqingError as error:
                return _told(error, request)
            except ApiError as error:
                return in_dialect(error.status, error.text)
            except RequestValidationError as error:
                row = error.errors()[0]
                # What is no JSON at all is told by its place, which is no field.
                field = ".".join(str(part) for part in row["loc"][1:] if row["type"] != "json_invalid")
                return in_dialect(400, f"{field or 'body'}: {row['msg']}", "invalid_field", field or None)
            except HTTPException as error:
                cause = error.__cause__
                if isinstance(cause, DanqingError):
                    return _told(cause, request)
                return in_dialect(error.status_code, str(error.detail))

        return shaped


def _told(error: DanqingError, request: Request) -> Response:
    field = error.params.get("field")
    text = error.text(language_of_request(request))
    return in_dialect(error.status, text, error.code, None if field is None else str(field))


class Dialect:
    """generations, edits, variations and models."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def generations(self, request: Request, body: Generation) -> Response:
        """Pictures from a prompt."""
        fields = await asyncio.to_thread(self._fields, body, request)
        return await self._drawn(request, body, Txt2Img(**fields))

    async def edits(self, request: Request) -> Response:
        """Pictures from pictures and a prompt; transparent places of `mask` (else of the picture) are painted anew."""
        async with request.form(max_files=FILES_LIMIT, max_fields=100) as form:
            body, files = _wish_of(form), await _files(form, "image", "image[]")
            masks = await _files(form, "mask")
        if not body.prompt:
            raise DanqingError("invalid_field", field="prompt", reason="is missing")
        return await self._from_picture(request, body, files, masks, EDIT_STRENGTH)

    async def variations(self, request: Request) -> Response:
        """Other pictures like the one that is sent."""
        async with request.form(max_files=FILES_LIMIT, max_fields=100) as form:
            body, files = _wish_of(form), await _files(form, "image")
        return await self._from_picture(request, body, files, [], VARIATION_STRENGTH)

    async def models(self, request: Request) -> Response:
        """Checkpoints on disk."""
        found = await asyncio.to_thread(self._context.library.checkpoints)
        return SafeJson({"object": "list", "data": [_model(one) for one in found]})

    async def model(self, request: Request, model: str) -> Response:
        """One checkpoint, by its id or any name that a request may give it."""
        return SafeJson(_model(await asyncio.to_thread(self._context.library.resolve, model)))

    async def _from_picture(
        self, request: Request, body: ImageWish, files: list[bytes], masks: list[bytes], strength: float
    ) -> Response:
        if not files:
            raise DanqingError("missing_picture", field="image")
        if len(files) > 1:
            # Stable Diffusion starts from one picture: taking the first silently would be the wrong picture.
            raise DanqingError("invalid_field", field="image", reason="one picture")
        limit = self._context.settings.get_int("limit_upload_pixels")
        picture, mask = await asyncio.to_thread(_picture_and_mask, files[0], masks[0] if masks else None, limit)
        fields = await asyncio.to_thread(self._fields, body, request, picture.size)
        fields |= {
            "init_images": [_base64(picture)],
            "denoising_strength": strength if body.denoising_strength is None else body.denoising_strength,
            "resize_mode": 1,
        }
        if mask is not None:
            fields |= {"mask": _base64(mask), "inpaint_full_res": False, "inpainting_fill": 1}
            fields["denoising_strength"] = 1.0 if body.denoising_strength is None else body.denoising_strength
        return await self._drawn(request, body, Img2Img(**fields))

    def _fields(self, body: ImageWish, request: Request, size: tuple[int, int] | None = None) -> dict[str, Any]:
        """The WebUI's fields."""
        context = self._context
        if body.background == "transparent":
            raise DanqingError("not_available", feature="background: transparent")
        if body.quality and body.quality not in STEPS:
            raise DanqingError("invalid_field", field="quality", reason="one of " + ", ".join(STEPS))
        if body.response_format == "url" and body.output_format not in (None, "png"):
            raise DanqingError("invalid_field", field="response_format", reason="one of b64_json")
        name = body.model or ""
        own = context.options.of(context.client(request))["sd_model_checkpoint"] or ""
        # A name that somebody gave is meant, unless it is one that no box can have.
        checkpoint = context.library.resolve(str(own) if not name or ELSEWHERE.fullmatch(name) else name)
        native = (checkpoint.native_size, checkpoint.native_size)
        width, height = _size(body.size) or size or native
        count, most = body.n or 1, context.settings.get_int("limit_batch")
        batch = next(size for size in range(min(count, most), 0, -1) if count % size == 0)
        return {
            "prompt": body.prompt,
            "negative_prompt": body.negative_prompt or "",
            "seed": body.seed,
            "steps": STEPS.get(body.quality or "auto", 20) if body.steps is None else body.steps,
            "cfg_scale": 7.0 if body.cfg_scale is None else body.cfg_scale,
            "sampler_name": body.sampler_name or "DPM++ 2M",
            "width": width,
            "height": height,
            "batch_size": batch,
            "n_iter": count // batch,
            "override_settings": {"sd_model_checkpoint": checkpoint.name},
        }

    async def _drawn(self, request: Request, body: ImageWish, fields: Drawing) -> Response:
        context, client = self._context, self._context.client(request)
        wanted = await asyncio.to_thread(wish, fields, context, client)
        job = await context.service.submit(wanted.request, owner=context.owner(request), client=client, save=False)
        context.tell_job(request, job.id)
        job = await finished(context, job)
        kind = "image_generation" if isinstance(fields, Txt2Img) else "image_edit"
        answer = self._streamed if body.stream else self._answered
        return await asyncio.to_thread(answer, job, body, request, kind)

    def _answered(self, job: Job, body: ImageWish, request: Request, kind: str) -> Response:
        """One JSON."""
        form, rows = _form(body), []
        for picture in self._pictures(job):
            address = {} if form == "b64_json" else {"url": f"{request.base_url}v1/images/{picture.id}"}
            content = {} if form == "url" else {"b64_json": self._encoded(picture, body, request)}
            rows.append(address | content)
        return SafeJson({"created": int(time.time()), "data": rows})

    def _streamed(self, job: Job, body: ImageWish, request: Request, kind: str) -> Response:
        """Server-sent events, one for each finished picture; those of the dialect in between may be left out."""
        wanted, lines = job.request, []
        for picture in self._pictures(job):
            told = {
                "type": f"{kind}.completed",
                "b64_json": self._encoded(picture, body, request),
                "created_at": int(time.time()),
                "size": f"{wanted.width}x{wanted.height}",
                "quality": body.quality or "auto",
                "background": "opaque",
                "output_format": body.output_format or "png",
                "usage": NO_TOKENS,
            }
            lines.append(f"event: {told['type']}\ndata: {json.dumps(told)}\n\n")
        return Response("".join(lines), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    def _pictures(self, job: Job) -> list[Picture]:
        """Those that were asked for: masks and maps carry no infotext."""
        found = [self._context.service.gallery.get(picture) for picture in job.pictures]
        return [one for one in found if one.infotext]

    def _encoded(self, picture: Picture, body: ImageWish, request: Request) -> str:
        """Base64 of a picture in the format that is asked for."""
        png = picture.path.read_bytes()
        if body.output_format in (None, "png"):
            return base64.b64encode(png).decode("ascii")
        quality = 100 if body.output_compression is None else max(1, body.output_compression)
        options = {"samples_format": body.output_format, "jpeg_quality": quality, "webp_lossless": False}
        return images.encode(png, picture.infotext, options, self._context.service.gallery.labels)


def _model(checkpoint: Checkpoint) -> dict[str, Any]:
    """`created`: when its file was written, in seconds since 1970; 0 where it has gone since."""
    try:
        created = int(checkpoint.filename.stat().st_mtime)
    except OSError:
        created = 0
    return {"id": checkpoint.title, "object": "model", "created": created, "owned_by": "danqing"}


def _form(body: ImageWish) -> str:
    """ "url" or "b64_json"; "" is both, for who does not say and whose model does not tell which it expects."""
    name = body.model or ""
    if body.response_format:
        return body.response_format
    if body.output_format not in (None, "png") or name.startswith(BASE64_ONLY):
        return "b64_json"
    return "url" if name.startswith("dall-e") else ""


def _size(text: str | None) -> tuple[int, int] | None:
    if text in (None, "", "auto"):
        return None
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(text).lower())
    if match is None:
        raise DanqingError("invalid_field", field="size", reason="WIDTHxHEIGHT, such as 512x512")
    return int(match[1]), int(match[2])


def _wish_of(form: FormData) -> ImageWish:
    values = {key: value for key, value in form.items() if isinstance(value, str) and value}
    try:
        return ImageWish.model_validate(values)
    except ValidationError as error:
        row = error.errors(include_url=False, include_input=False)[0]
        raise DanqingError("invalid_field", field=str(row["loc"][0]), reason=row["msg"]) from None


async def _files(form: FormData, *names: str) -> list[bytes]:
    found = [value for name in names for value in form.getlist(name)]
    return [await value.read() for value in found if isinstance(value, UploadFile)]


def _picture_and_mask(content: bytes, mask: bytes | None, limit: int) -> tuple[Image.Image, Image.Image | None]:
    """The picture as RGB, and white where it is to be painted anew: where the mask, else the picture, is transparent."""
    picture = inputs.opened(content, limit)
    alpha = _alpha(inputs.opened(mask, limit) if mask is not None else picture)
    if mask is not None and alpha is None:
        raise DanqingError("invalid_field", field="mask", reason="a PNG with transparent places")
    if alpha is None:
        return picture.convert("RGB"), None
    return picture.convert("RGB"), alpha.point(lambda value: 0 if value else 255).resize(picture.size)


def _alpha(picture: Image.Image) -> Image.Image | None:
    """The alpha channel, None where nothing is transparent."""
    if picture.mode != "RGBA":
        return None
    alpha = picture.getchannel("A")
    return alpha if alpha.getextrema()[0] == 0 else None


def _base64(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode("ascii")


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes of the dialect below /v1."""
    dialect, inner = Dialect(context), APIRouter(route_class=OpenAiRoute, default_response_class=SafeJson)
    inner.add_api_route("/images/generations", dialect.generations, methods=["POST"])
    form = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema("mask")}}}}
    inner.add_api_route("/images/edits", dialect.edits, methods=["POST"], openapi_extra=form)
    form = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _form_schema()}}}}
    inner.add_api_route("/images/variations", dialect.variations, methods=["POST"], openapi_extra=form)
    inner.add_api_route("/models", dialect.models, methods=["GET"])
    inner.add_api_route("/models/{model:path}", dialect.model, methods=["GET"])
    router.include_router(inner)


def _form_schema(*more: str) -> dict[str, Any]:
    """The fields of a form: pictures as files, the rest as text."""
    text = ("prompt", "model", "size", "response_format", "negative_prompt")
    files = {name: {"type": "string", "format": "binary"} for name in ("image", *more)}
    numbers = {"n": {"type": "integer", "minimum": 1, "maximum": 16}, "seed": {"type": "integer"}}
    fields = {**files, **{name: {"type": "string"} for name in text}, **numbers}
    return {"type": "object", "required": ["image"], "properties": fields}
