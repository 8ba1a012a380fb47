"""/v1/images: the dialect of the OpenAI API (https://platform.openai.com/docs/api-reference/images), and /v1/models."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import ApiError, SafeJson, language_of_request
from danqing.api.fields import Drawing, Img2Img, Txt2Img, example
from danqing.api.translate import wish
from danqing.api.waiting import finished
from danqing.errors import DanqingError
from danqing.gallery.store import Picture
from danqing.jobs.model import Job

ELSEWHERE = re.compile(r"(dall-e|gpt-image|chatgpt-image|gpt-)[\w.-]*")
"""Names of models that programs send because they know no other: the client's own model draws."""

STEPS = {"low": 12, "medium": 20, "standard": 20, "auto": 20, "high": 35, "hd": 35}
"""Sampling steps by quality."""

FILES_LIMIT = 16

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
    output_format: Literal["png"] | None = None
    user: str | None = None

    negative_prompt: str = ""
    seed: int = -1
    steps: int | None = None
    cfg_scale: float = 7.0
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
                return _refusal(error.status, error.text(language_of_request(request)), error.code)
            except ApiError as error:
                return _refusal(error.status, error.text, None)
            except RequestValidationError as error:
                row = error.errors()[0]
                return _refusal(400, f"{'.'.join(str(part) for part in row['loc'][1:])}: {row['msg']}", "invalid_field")
            except HTTPException as error:
                cause = error.__cause__
                if isinstance(cause, DanqingError):
                    return _refusal(cause.status, cause.text(language_of_request(request)), cause.code)
                return _refusal(error.status_code, str(error.detail), None)

        return shaped


def _refusal(status: int, message: str, code: str | None) -> Response:
    status = status if status >= 400 else 500
    kind = "invalid_request_error" if status < 500 else "server_error"
    return SafeJson({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


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
        rows = [{"id": one.title, "object": "model", "created": 0, "owned_by": "danqing"} for one in found]
        return SafeJson({"object": "list", "data": rows})

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
            "negative_prompt": body.negative_prompt,
            "seed": body.seed,
            "steps": STEPS.get(body.quality or "auto", 20) if body.steps is None else body.steps,
            "cfg_scale": body.cfg_scale,
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
        # Models of the dialect that were made later know base64 only.
        form = body.response_format or ("b64_json" if (body.model or "").startswith("gpt-image") else "url")
        rows = await asyncio.to_thread(self._rows, job, form, str(request.base_url))
        return await asyncio.to_thread(SafeJson, {"created": int(time.time()), "data": rows})

    def _rows(self, job: Job, form: str, base: str) -> list[dict[str, str]]:
        pictures = [self._context.service.gallery.get(picture) for picture in job.pictures]
        return [_row(one, form, base) for one in pictures if one.infotext]


def _row(picture: Picture, form: str, base: str) -> dict[str, str]:
    if form == "url":
        return {"url": f"{base}v1/images/{picture.id}"}
    return {"b64_json": base64.b64encode(picture.path.read_bytes()).decode("ascii")}


def _size(text: str | None) -> tuple[int, int] | None:
    if text in (None, "", "auto"):
        return None
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(text))
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
    picture = _opened(content, limit)
    alpha = _alpha(_opened(mask, limit) if mask is not None else picture)
    if mask is not None and alpha is None:
        raise DanqingError("invalid_field", field="mask", reason="a PNG with transparent places")
    if alpha is None:
        return picture.convert("RGB"), None
    return picture.convert("RGB"), alpha.point(lambda value: 0 if value else 255).resize(picture.size)


def _alpha(picture: Image.Image) -> Image.Image | None:
    """The alpha channel, None where nothing is transparent."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return alpha if alpha.getextrema()[0] == 0 else None


def _opened(content: bytes, limit: int) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content))
        if picture.width * picture.height > limit:
            raise DanqingError("broken_image", reason=f"more than {limit} pixels")
        picture.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DanqingError("broken_image", reason=str(error)[:200]) from None
    return picture


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
    router.include_router(inner)


def _form_schema(*more: str) -> dict[str, Any]:
    """The fields of a form: pictures as files, the rest as text."""
    text = ("prompt", "model", "size", "response_format", "negative_prompt")
    files = {name: {"type": "string", "format": "binary"} for name in ("image", *more)}
    numbers = {"n": {"type": "integer", "minimum": 1, "maximum": 16}, "seed": {"type": "integer"}}
    fields = {**files, **{name: {"type": "string"} for name in text}, **numbers}
    return {"type": "object", "required": ["image"], "properties": fields}
