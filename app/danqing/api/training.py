"""/v1: data sets to train on, what a training needs and does, pausing and going on. Everybody sees their own only."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from danqing.api.context import Context
from danqing.api.errors import SafeJson, language_of_request
from danqing.api.fields import example
from danqing.api.jobs import JobId, told
from danqing.api.tokens import TRAIN
from danqing.api.train_fields import TrainJob, recipe_of
from danqing.api.waiting import unless_stopping
from danqing.engine.interrogators import Manner
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.train import recipe
from danqing.train.folder import Training
from danqing.train.prepare import bucket_of

FILES_LIMIT = 1000
"""Files in one upload."""

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}

SetName = Annotated[str, Path(description="A data set of the caller.", examples=["my pictures"], max_length=200)]
PictureName = Annotated[str, Path(description="A picture of the set.", examples=["a.png"], max_length=1000)]


class Caption(BaseModel):
    """Body of PUT /v1/datasets/{name}/captions."""

    model_config = example({"file": "a.png", "caption": "a photo of zqx"})

    file: Annotated[str, Field(max_length=1000)]
    caption: Annotated[str, Field(max_length=100_000)]


class Seen(BaseModel):
    """Body of POST /v1/datasets/{name}/captions."""

    model_config = example({"file": "a.png", "model": "clip"})

    file: Annotated[str, Field(max_length=1000)]
    model: Annotated[Literal["clip", "deepdanbooru"], Field(description="Who looks at it, as for interrogate.")] = (
        "clip"
    )


class TrainingRoutes:
    """Data sets, and trainings beside what every job has."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def _mine(self, request: Request) -> str:
        """The owner, who may train.

        Raises:
            DanqingError: `not_allowed`.
        """
        self._context.require(request, TRAIN)
        return self._context.owner(request)

    async def presets(self) -> Response:
        """Fields by machine and method, and the defaults of all fields."""
        defaults = {
            name: field.get_default(call_default_factory=True)
            for name, field in recipe.TrainRequest.model_fields.items()
            if not field.is_required()
        }
        share = {"share": self._context.settings.get_float("train_share")}
        return SafeJson({"methods": recipe.METHODS, "presets": recipe.PRESETS, "defaults": {**defaults, **share}})

    async def estimate(self, request: Request, fields: Annotated[TrainJob, Body()]) -> Response:
        """What the training would take of the device, in bytes: estimated, nothing begins."""
        owner, context = self._mine(request), self._context

        def work() -> dict[str, Any]:
            wanted = recipe_of(fields, context, owner)
            return context.service.training.admission.need(wanted).told()

        return SafeJson(await asyncio.to_thread(work))

    async def sets(self, request: Request) -> Response:
        """The caller's data sets, and the folder in which they lie."""
        owner, sets = self._context.owner(request), self._context.service.training.datasets
        found = await asyncio.to_thread(sets.told, owner)
        return SafeJson(
            {"datasets": found, "folder": sets.folder(owner).relative_to(self._context.service.data).as_posix()}
        )

    async def upload(self, request: Request, name: SetName) -> Response:
        """Put pictures, captions (.txt) and zips of them into a data set; it is made when it is not there.

        `issues` tells of what a zip holds and cannot be read.
        """
        owner, sets = self._mine(request), self._context.service.training.datasets
        count, language = 0, language_of_request(request)
        issues: list[dict[str, str]] = []
        async with request.form(max_files=FILES_LIMIT, max_fields=10) as form:
            files = [one for one in form.getlist("files") if isinstance(one, UploadFile)]
            if not files:
                raise DanqingError("missing_picture", field="files")
            for one in files:
                content = await one.read()
                added, found = await asyncio.to_thread(sets.add, owner, name, one.filename or "", content)
                count += added
                issues += [issue.told(language) for issue in found]
        return SafeJson({"name": name, "files": count, "issues": issues})

    async def report(
        self,
        request: Request,
        name: SetName,
        resolution: Annotated[
            int, Query(ge=0, le=8192, description="Of the training; 0 is that of the default model.")
        ] = 0,
    ) -> Response:
        """What a data set holds: pictures with their captions and the size each is given, and what is wrong with it."""
        owner, context, language = self._context.owner(request), self._context, language_of_request(request)

        def work() -> dict[str, Any]:
            side = resolution or context.library.default().native_size
            told = context.service.training.datasets.report(owner, name, side).as_dict(language)
            for row in told["pictures"]:
                row["bucket"] = bucket_of((row["width"], row["height"]), side)
            return told

        return SafeJson(await asyncio.to_thread(work))

    async def remove(self, request: Request, name: SetName) -> Response:
        """Throw a data set away."""
        owner, sets = self._mine(request), self._context.service.training.datasets
        await asyncio.to_thread(sets.remove, owner, name)
        return SafeJson({})

    async def picture(self, request: Request, name: SetName, file: PictureName) -> Response:
        """A picture of a data set, made small."""
        owner, sets = self._context.owner(request), self._context.service.training.datasets
        content = await asyncio.to_thread(sets.picture, owner, name, file)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def remove_picture(self, request: Request, name: SetName, file: PictureName) -> Response:
        """Take a picture out of a data set, with its caption and its mask."""
        owner, sets = self._mine(request), self._context.service.training.datasets
        await asyncio.to_thread(sets.remove_picture, owner, name, file)
        return SafeJson({})

    async def caption(self, request: Request, name: SetName, body: Caption) -> Response:
        """Give a picture another caption. The one that came with it is kept."""
        owner, sets = self._mine(request), self._context.service.training.datasets
        await asyncio.to_thread(sets.write_caption, owner, name, body.file, body.caption)
        return SafeJson({})

    async def see(self, request: Request, name: SetName, body: Seen) -> Response:
        """Have an interrogator write a picture's caption. The one that came with it is kept."""
        owner, context = self._mine(request), self._context
        sets, options = context.service.training.datasets, context.options.of(context.client(request))

        def kept() -> str:
            limit = context.settings.get_int("limit_upload_pixels")
            return inputs.keep(context.service.data, sets.whole(owner, name, body.file), limit)

        image = await asyncio.to_thread(kept)
        text = await unless_stopping(context, context.service.interrogate(image, body.model, Manner.of(options)))
        await asyncio.to_thread(sets.write_caption, owner, name, body.file, text)
        return SafeJson({"file": body.file, "caption": " ".join(text.split())})

    async def show(
        self,
        request: Request,
        job_id: JobId,
        since: Annotated[int, Query(ge=0, le=10**9, description="Rows of the record that are known already.")] = 0,
    ) -> Response:
        """A training's recipe, the rows of its record, its sample pictures by number, and its result."""
        owner, desk = self._context.owner(request), self._context.service.training

        def work() -> dict[str, Any]:
            training = desk.folder(job_id, owner)
            rows = training.rows(since)
            return {
                "recipe": _recipe(training),
                "rows": [{key: _finite(value) for key, value in row.items()} for row in rows],
                "next": since + len(rows),
                "samples": [path.name for path in desk.samples(job_id, owner)],
                "result": training.result(),
            }

        return SafeJson(await asyncio.to_thread(work))

    async def sample(
        self,
        request: Request,
        job_id: JobId,
        number: Annotated[int, Path(ge=0, le=10**6, description="Its place among the samples, from 0.", examples=[0])],
    ) -> Response:
        """A sample picture as PNG."""
        owner, desk = self._context.owner(request), self._context.service.training

        def work() -> bytes:
            paths = desk.samples(job_id, owner)
            if number >= len(paths):
                raise DanqingError("unknown_picture", picture=str(number))
            return paths[number].read_bytes()

        return Response(await asyncio.to_thread(work), media_type="image/png")

    async def file(
        self,
        request: Request,
        job_id: JobId,
        number: Annotated[int, Path(ge=0, le=100, description="Its place among the result's files.", examples=[0])],
    ) -> Response:
        """A file that the training has made, for saving."""
        owner, context = self._context.owner(request), self._context

        def work() -> FilePath:
            files = (context.service.training.folder(job_id, owner).result() or {}).get("files", [])
            path = context.service.data / str(files[number]["path"]) if number < len(files) else None
            if path is None or not path.is_file():
                raise DanqingError("train_file_gone", number=number)
            return path

        found = await asyncio.to_thread(work)
        return FileResponse(found, filename=found.name, media_type="application/octet-stream")

    async def pause(self, request: Request, job_id: JobId) -> Response:
        """Have a training save its state and wait until it is resumed."""
        owner = self._mine(request)
        await self._context.service.training.pause(job_id, owner)
        return await self._answer(request, job_id)

    async def resume(self, request: Request, job_id: JobId) -> Response:
        """Let a training go on; one that failed goes on from its saved state as a new job."""
        owner = self._mine(request)
        job = await self._context.service.training.resume(job_id, owner)
        return await self._answer(request, job.id)

    async def _answer(self, request: Request, job_id: str) -> Response:
        view = await asyncio.to_thread(self._context.service.view, job_id)
        return SafeJson(told(view, language_of_request(request)))


def _recipe(training: Training) -> dict[str, Any] | None:
    """Without the path of its data, which is nobody's business."""
    try:
        found = training.recipe().model_dump(mode="json")
    except DanqingError:
        return None
    return {**found, "data": found["data"].rsplit("/", 1)[-1]}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes of training below /v1."""
    routes = TrainingRoutes(context)
    router.add_api_route("/training/presets", routes.presets, methods=["GET"])
    router.add_api_route("/training/estimate", routes.estimate, methods=["POST"])
    router.add_api_route("/datasets", routes.sets, methods=["GET"])
    router.add_api_route("/datasets/{name}", routes.report, methods=["GET"])
    router.add_api_route("/datasets/{name}", routes.upload, methods=["POST"], openapi_extra=FORM)
    router.add_api_route("/datasets/{name}", routes.remove, methods=["DELETE"])
    router.add_api_route("/datasets/{name}/captions", routes.caption, methods=["PUT"])
    router.add_api_route("/datasets/{name}/captions", routes.see, methods=["POST"])
    router.add_api_route("/datasets/{name}/pictures/{file:path}", routes.picture, methods=["GET"])
    router.add_api_route("/datasets/{name}/pictures/{file:path}", routes.remove_picture, methods=["DELETE"])
    router.add_api_route("/jobs/{job_id}/training", routes.show, methods=["GET"])
    router.add_api_route("/jobs/{job_id}/samples/{number}", routes.sample, methods=["GET"])
    router.add_api_route("/jobs/{job_id}/files/{number}", routes.file, methods=["GET"])
    router.add_api_route("/jobs/{job_id}/pause", routes.pause, methods=["POST"])
    router.add_api_route("/jobs/{job_id}/resume", routes.resume, methods=["POST"])
