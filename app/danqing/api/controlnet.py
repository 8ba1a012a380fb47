"""The routes below /controlnet: lists of models and preprocessors, maps of pictures, drawings of poses (spec 5).

Preprocessors with networks run in the engine's process, where the GPU is; the others run here.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from danqing.api import images, no_route
from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import ApiError, SafeJson
from danqing.api.lists import Route
from danqing.api.translate import keep_image
from danqing.api.waiting import unless_stopping
from danqing.control import catalog
from danqing.control.catalog import Row
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.library.controls import NONE, Controls

PREFIX = "/controlnet"
VERSION = 3


class Detection(BaseModel):
    """Body of POST detect."""

    model_config = ConfigDict(extra="ignore")

    controlnet_module: str = "none"
    controlnet_input_images: list[str] = []
    controlnet_processor_res: float = -1
    controlnet_threshold_a: float = -1
    controlnet_threshold_b: float = -1
    controlnet_masks: list[str] = []
    low_vram: bool = False


def controlnet(context: Context) -> APIRouter:
    """All routes below /controlnet."""
    router = APIRouter(prefix=PREFIX, route_class=StrictRoute, default_response_class=SafeJson)
    lists, maps = ControlLists(context), ControlMaps(context)
    reading: dict[str, Route] = {
        "/version": lists.version,
        "/settings": lists.settings,
        "/model_list": lists.models,
        "/module_list": lists.modules,
        "/control_types": lists.types,
    }
    acting: dict[str, Route] = {"/detect": maps.detect, "/render_openpose_json": maps.render}
    no_route.fill(router, reading, acting)
    return router


class ControlLists:
    """What there is."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._controls = Controls(context.logins.data)

    async def version(self) -> Response:
        """Of the extension's API."""
        return SafeJson({"version": VERSION})

    async def settings(self, request: Request) -> Response:
        """How many units a page shows; a request may have any number."""
        options = self._context.options.of(self._context.client(request))
        return SafeJson({"control_net_unit_count": options["control_net_unit_count"]})

    async def models(self) -> Response:
        """ControlNets on disk, read anew each time."""
        return SafeJson({"model_list": await asyncio.to_thread(self._titles)})

    async def modules(self, alias_names: bool = False) -> Response:
        """Preprocessors with their sliders, by name or by label."""
        names = [row.label if alias_names else row.name for row in catalog.rows()]
        details = {name: _detail(row) for name, row in zip(names, catalog.rows(), strict=True)}
        return SafeJson({"module_list": names, "module_detail": details})

    async def types(self) -> Response:
        """Control types with their preprocessors and models."""
        titles = await asyncio.to_thread(self._titles)
        return SafeJson({"control_types": {kind: _type(kind, titles) for kind in catalog.TYPES}})

    def _titles(self) -> list[str]:
        return [row.title for row in self._controls.all()]


def _detail(row: Row) -> dict[str, Any]:
    sliders = [
        {"name": one.name, "value": one.value, "min": one.minimum, "max": one.maximum, "step": one.step}
        for one in row.sliders
    ]
    return {"model_free": row.model_free, "sliders": sliders}


def _type(kind: str, titles: list[str]) -> dict[str, Any]:
    models = catalog.models_of_type(kind, titles)
    return {
        "module_list": [row.label for row in catalog.of_type(kind)],
        "model_list": [NONE, *models],
        "default_option": catalog.default_of(kind).label,
        "default_model": NONE if kind == "All" else catalog.default_model(models),
    }


class ControlMaps:
    """Maps and poses, one request at a time: what they may cost in memory is then bounded."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._turn = asyncio.Lock()

    async def detect(self, fields: Detection) -> Response:
        """The map of each picture."""
        row = module(fields)
        self._count(len(fields.controlnet_input_images))
        if row.how == "network":
            return await self._by_engine(row, fields)
        async with self._turn:
            found = await asyncio.to_thread(self._maps, row, fields)
        return await asyncio.to_thread(SafeJson, {"info": "Success", "images": found})

    async def _by_engine(self, row: Row, fields: Detection) -> Response:
        """The same by a network; with what it found as OpenPose's JSON where it looks for people."""
        await asyncio.to_thread(_files, self._context, row)
        names = [await asyncio.to_thread(keep_image, text, self._context) for text in fields.controlnet_input_images]
        found = [
            await unless_stopping(self._context, self._context.service.detect(name, "", row.name, _values(row, fields)))
            for name in names
        ]
        body: dict[str, Any] = {"info": "Success", "images": [_base64(png) for png, _ in found]}
        if any(poses for _, poses in found):
            body["poses"] = [json.loads(poses) for _, poses in found]
        return await asyncio.to_thread(SafeJson, body)

    async def render(self, poses: list[dict[str, Any]]) -> Response:
        """Poses as pictures."""
        if not poses:
            return SafeJson({"info": "No pose data detected."})
        self._count(len(poses))
        async with self._turn:
            found = await asyncio.to_thread(_rendered, poses)
        return await asyncio.to_thread(SafeJson, {"images": found, "info": "Success"})

    def _maps(self, row: Row, fields: Detection) -> list[str]:
        # OpenCV is not loaded before somebody asks for a map.
        from danqing.control import previews

        values = _values(row, fields)
        data = self._context.logins.data
        found = []
        for place, text in enumerate(fields.controlnet_input_images):
            mask = self._opened(fields.controlnet_masks[place]) if place < len(fields.controlnet_masks) else None
            found.append(_base64(previews.preview(data, row, self._opened(text), mask, values)))
        return found

    def _opened(self, text: str) -> Any:
        """The Pillow picture of a base64 text."""
        try:
            settings = self._context.settings
            picture = images.decode(text, urls=settings.get_bool("url_inputs"))
            return inputs.opened(picture, settings.get_int("limit_upload_pixels"))
        except DanqingError as error:
            if error.code == "broken_image" and "pixels" not in str(error):
                raise ApiError(422, "HTTPException", "Invalid encoded image") from None
            raise

    def _count(self, count: int) -> None:
        limit = self._context.settings.get_int("limit_images")
        if count > limit:
            raise DanqingError("too_many_images", count=count, maximum=limit)


def _values(row: Row, fields: Detection) -> catalog.Values:
    return catalog.settings_of(
        row, fields.controlnet_processor_res, fields.controlnet_threshold_a, fields.controlnet_threshold_b
    )


def _files(context: Context, row: Row) -> None:
    from danqing.control import maps

    maps.files_of(context.logins.data, row)


def module(fields: Detection) -> Row:
    """The preprocessor that is asked for, when it can run on what came with it.

    Raises:
        ApiError: in the extension's words.
        DanqingError: `preprocessor_absent`.
    """
    try:
        row = catalog.find(fields.controlnet_module)
    except DanqingError:
        raise ApiError(422, "HTTPException", "Module not available") from None
    if row.name in catalog.NOT_DETECTED or row.how == "vision":
        raise ApiError(422, "HTTPException", "Module not supported")
    if not fields.controlnet_input_images:
        raise ApiError(422, "HTTPException", "No image selected")
    if row.how == "absent":
        from danqing.control import maps

        maps.known(row.name)
    if row.needs_mask and len(fields.controlnet_masks) < len(fields.controlnet_input_images):
        raise ApiError(422, "HTTPException", f"Module {row.name} requires a mask for each image")
    return row


def _rendered(poses: list[dict[str, Any]]) -> list[str]:
    from danqing.control import previews

    return [_base64(previews.render(value)) for value in poses]


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")
