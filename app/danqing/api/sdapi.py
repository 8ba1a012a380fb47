"""The routes below /sdapi/v1, as the WebUI's clients know them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from danqing.api import images, no_route
from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import RESPONSES, ApiError, SafeJson
from danqing.api.fields import PIXELS, Drawing, Img2Img, Txt2Img, example
from danqing.api.lists import Lists, Route
from danqing.api.options import as_floats
from danqing.api.progress import Progress
from danqing.api.reply import reply
from danqing.api.steering import Steering
from danqing.api.translate import wish
from danqing.api.upscaled import Upscaled
from danqing.api.waiting import finished
from danqing.errors import DanqingError
from danqing.gallery import infotext

PREFIX = "/sdapi/v1"


class PngInfo(BaseModel):
    """Body of POST png-info."""

    model_config = example({"image": PIXELS})

    image: str


def sdapi(context: Context) -> APIRouter:
    """All routes of the API."""
    router = APIRouter(prefix=PREFIX, route_class=StrictRoute, default_response_class=SafeJson, responses=RESPONSES)
    drawing, progress, lists, options = Drawings(context), Progress(context), Lists(context), OptionRoutes(context)
    upscaling = Upscaled(context)
    reading: dict[str, Route] = {"/progress": progress.show, "/options": options.show, **lists.routes()}
    acting: dict[str, Route] = {
        "/txt2img": drawing.txt2img,
        "/img2img": drawing.img2img,
        "/extra-single-image": upscaling.single,
        "/extra-batch-images": upscaling.batch,
        "/interrupt": progress.interrupt,
        "/skip": progress.skip,
        "/options": options.change,
        "/png-info": drawing.png_info,
        **lists.refreshers(),
        **Steering(context).routes(),
    }
    no_route.fill(router, reading, acting)
    return router


class Drawings:
    """Routes that draw, and the one that reads what was drawn."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def txt2img(self, request: Request, fields: Txt2Img) -> Response:
        """Draw, and answer when it is done. The job goes on when the client leaves."""
        return await self._draw(request, fields)

    async def img2img(self, request: Request, fields: Img2Img) -> Response:
        """Draw from a picture, and answer when it is done."""
        return await self._draw(request, fields)

    async def _draw(self, request: Request, fields: Drawing) -> Response:
        context, client = self._context, self._context.client(request)
        wanted = await asyncio.to_thread(wish, fields, context, client)
        job = await context.service.submit(
            wanted.request, owner=context.owner(request), client=client, save=bool(fields.save_images)
        )
        context.tell_job(request, job.id)
        context.tasks.add(job.owner, fields.force_task_id, wanted.request.kind, job.id)
        if wanted.staying:
            await asyncio.to_thread(context.options.set, client, wanted.staying)
        job = await finished(context, job)
        options = context.options.of(client)
        answer = await asyncio.to_thread(reply, wanted.fields, job, context, options)
        return await asyncio.to_thread(SafeJson, answer)

    async def png_info(self, body: PngInfo) -> Response:
        """The infotext of a picture, its other texts, and the infotext taken apart."""
        return SafeJson(await asyncio.to_thread(self._read, body.image))

    def _read(self, image: str) -> dict[str, Any]:
        limit = self._context.settings.get_int("limit_upload_pixels")
        try:
            picture = images.decode(image, urls=self._context.settings.get_bool("url_inputs"))
            text, items = infotext.read_image(picture, limit)
        except DanqingError as error:
            if error.code == "broken_image" and "pixels" not in str(error):
                raise ApiError(422, "HTTPException", "Invalid encoded image") from None
            raise
        return {"info": text, "items": items, "parameters": infotext.parameters(text) if text else {}}


class OptionRoutes:
    """GET and POST options: each client its own."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request) -> Response:
        """Every option; whole numbers as floats."""
        return SafeJson(await asyncio.to_thread(self._values, self._context.client(request)))

    def _values(self, client: str) -> dict[str, Any]:
        values = {key: as_floats(value) for key, value in self._context.options.listed(client).items()}
        try:
            checkpoint = self._context.library.resolve(values["sd_model_checkpoint"] or "")
            values["sd_model_checkpoint"] = checkpoint.title
            values["sd_checkpoint_hash"] = checkpoint.sha256 or ""
        except DanqingError:
            # The file was taken away: the name that was set is still the truth.
            values["sd_checkpoint_hash"] = ""
        return values

    async def change(
        self, request: Request, values: Annotated[dict[str, Any], Body(examples=[{"jpeg_quality": 90}])]
    ) -> Response:
        """Set options for this client."""
        await asyncio.to_thread(self._set, self._context.client(request), values)
        return SafeJson(None)

    def _set(self, client: str, values: dict[str, Any]) -> None:
        kept = self._context.options.checked(values)
        kept.pop("sd_checkpoint_hash", None)
        name = kept.get("sd_model_checkpoint")
        if name:
            try:
                kept["sd_model_checkpoint"] = self._context.library.resolve(name).name
            except DanqingError as error:
                raise ApiError(error.status, "RuntimeError", f"model {name[:200]!r} not found") from None
        self._context.options.set(client, kept)
