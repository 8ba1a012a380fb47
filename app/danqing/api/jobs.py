"""/v1: jobs for programs that do not want to wait for an answer, and pictures by their ids."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import RESPONSES, SafeJson, language_of_request
from danqing.api.fields import EXTRAS_BATCH, IMG2IMG, TXT2IMG, ExtrasBatch, Img2Img, Txt2Img, example
from danqing.api.pictures import Pictures
from danqing.api.tokens import ADMIN, TRAIN
from danqing.api.train_fields import TrainJob, recipe_of, training_told
from danqing.api.translate import wish
from danqing.api.upscaled import upscale_request
from danqing.api.webhooks import Hooked
from danqing.errors import DanqingError, Language
from danqing.jobs.model import Job, JobState, JobView
from danqing.request import GenerateRequest

BEAT_SECONDS = 15.0
"""A stream that has nothing to say says so, or a proxy would close it."""

KEYS = 10_000
"""Idempotency keys remembered to tell a repeated request from another one; the oldest go first."""


class Txt2ImgJob(Txt2Img, Hooked):
    """Draw from a prompt."""

    model_config = example({"kind": "txt2img", **TXT2IMG})

    kind: Literal["txt2img"]


class Img2ImgJob(Img2Img, Hooked):
    """Draw from a picture."""

    model_config = example({"kind": "img2img", **IMG2IMG})

    kind: Literal["img2img"]


class ExtrasJob(ExtrasBatch, Hooked):
    """Make pictures larger."""

    model_config = example({"kind": "extras", **EXTRAS_BATCH})

    kind: Literal["extras"]


AnyJob = Annotated[TrainJob | Txt2ImgJob | Img2ImgJob | ExtrasJob, Field(discriminator="kind")]

JobId = Annotated[str, Path(description="The id that POST /v1/jobs answered.", examples=["0" * 32])]


class Jobs:
    """POST, GET and DELETE of jobs, their events, and pictures. Everybody sees their own only."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: OrderedDict[str, str] = OrderedDict()

    async def submit(
        self,
        request: Request,
        fields: Annotated[AnyJob, Body()],
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Response:
        """Put a job into the queue and answer at once. A repeated Idempotency-Key answers the job that is there."""
        context, owner = self._context, self._context.owner(request)
        job_id = self._id_of(owner, idempotency_key, fields) if idempotency_key else ""
        job = await asyncio.to_thread(self._known, job_id)
        if job is None:
            client = context.client(request)
            new = job_id or secrets.token_hex(16)
            if isinstance(fields, TrainJob):
                context.require(request, TRAIN)
                recipe = await asyncio.to_thread(recipe_of, fields, context, owner)
                async with context.webhooks.promised(new, fields):
                    job = await context.service.training.submit(recipe, owner=owner, client=client, job_id=new)
            else:
                wanted, save = await asyncio.to_thread(self._request, fields, client)
                async with context.webhooks.promised(new, fields):
                    job = await context.service.submit(wanted, owner=owner, client=client, save=save, job_id=new)
        context.tell_job(request, job.id)
        if job_id:
            self._remember(job_id)
        view = await asyncio.to_thread(context.service.view, job.id)
        return self._answer(view, request, 202, {"Location": f"/v1/jobs/{job.id}"})

    def _id_of(self, owner: str, key: str, fields: AnyJob) -> str:
        """An id that the same owner, key and body give again, also after a restart.

        Raises:
            DanqingError: `key_reused`, for another body.
        """
        name = hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()[:16]
        body = hashlib.sha256(fields.model_dump_json().encode()).hexdigest()[:16]
        if self._keys.get(name, body) != body:
            raise DanqingError("key_reused")
        return name + body

    def _remember(self, job_id: str) -> None:
        self._keys[job_id[:16]] = job_id[16:]
        while len(self._keys) > KEYS:
            self._keys.popitem(last=False)

    def _known(self, job_id: str) -> Job | None:
        if not job_id:
            return None
        try:
            return self._context.service.get(job_id)
        except DanqingError:
            return None

    def _request(self, fields: Txt2ImgJob | Img2ImgJob | ExtrasJob, client: str) -> tuple[GenerateRequest, bool]:
        if isinstance(fields, ExtrasJob):
            return upscale_request(fields, [file.data for file in fields.imageList], client, self._context), False
        return wish(fields, self._context, client).request, bool(fields.save_images)

    async def show(self, request: Request, job_id: JobId) -> Response:
        """How a job stands."""
        return self._answer(await self._mine(request, job_id), request)

    async def list(
        self,
        request: Request,
        active: Annotated[bool, Query(description="Leave out jobs that are over.")] = False,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most jobs in the answer.")] = 100,
        kind: Annotated[
            Literal["txt2img", "img2img", "extras", "train"] | None, Query(description="Only jobs of this kind.")
        ] = None,
    ) -> Response:
        """The caller's jobs, newest first."""
        owner, language = self._context.owner(request), language_of_request(request)
        views = await asyncio.to_thread(
            lambda: self._context.service.views(owner, active=active, limit=limit, kind=kind or "")
        )
        return SafeJson({"jobs": [told(view, language) for view in views]})

    async def end(
        self,
        request: Request,
        job_id: JobId,
        keep: Annotated[bool, Query(description="Keep what is drawn so far: the job becomes done.")] = False,
    ) -> Response:
        """Cancel a job; administrators, anybody's. One that is over stays as it is."""
        context = self._context
        owner = None if context.logins.may(request, ADMIN) else context.owner(request)
        await (context.service.interrupt if keep else context.service.cancel)(job_id, owner)
        return self._answer(await asyncio.to_thread(context.service.view, job_id, owner), request)

    async def events(self, request: Request, job_id: JobId) -> Response:
        """Server-sent events: `job` with the job's JSON at once and at every change; the last one when it is over."""
        view = await self._mine(request, job_id)
        stream = self._stream(view.job.id, language_of_request(request))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _stream(self, job_id: str, language: Language) -> AsyncIterator[str]:
        changes = self._context.service.changes(job_id)
        stopping = asyncio.ensure_future(self._context.stopping.wait())
        change = asyncio.ensure_future(anext(changes, None))
        try:
            while True:
                await asyncio.wait({change, stopping}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    return
                if not change.done():
                    yield ": still here\n\n"
                    continue
                view = change.result()
                if view is None:
                    return
                yield f"event: job\ndata: {json.dumps(told(view, language))}\n\n"
                change = asyncio.ensure_future(anext(changes, None))
        finally:
            stopping.cancel()
            change.cancel()
            await asyncio.gather(change, return_exceptions=True)

    async def _mine(self, request: Request, job_id: str) -> JobView:
        """
        Raises:
            DanqingError: `unknown_job`, also for somebody else's.
        """
        view = await asyncio.to_thread(self._context.service.view, job_id)
        if view.job.owner != self._context.owner(request):
            raise DanqingError("unknown_job", job=job_id[:64])
        return view

    def _answer(
        self, view: JobView, request: Request, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        return SafeJson(told(view, language_of_request(request)), status, headers)


def told(view: JobView, language: Language) -> dict[str, Any]:
    """A job as /v1 tells it."""
    job = view.job
    error = None if job.error is None else {"code": job.error.code, "message": job.error.text(language)}
    return {
        "id": job.id,
        "kind": job.request.kind,
        "state": job.state.value,
        "progress": round(view.progress, 4),
        "position": view.position,
        "eta": None if view.eta is None or job.state.final else round(view.eta, 2),
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "seed": job.request.seed,
        "error": error,
        "images": list(job.pictures) if job.state.final or job.state is JobState.RUNNING else [],
        "interrupted": job.interrupted,
        "notes": [{"code": note.code, "message": note.text(language)} for note in job.notes],
        **(training_told(view) if job.request.kind == "train" else {}),
    }


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes of jobs and pictures below /v1."""
    jobs, pictures = Jobs(context), Pictures(context)
    router.add_api_route("/jobs", jobs.submit, methods=["POST"], status_code=202)
    router.add_api_route("/jobs", jobs.list, methods=["GET"])
    router.add_api_route("/jobs/{job_id}", jobs.show, methods=["GET"])
    router.add_api_route("/jobs/{job_id}", jobs.end, methods=["DELETE"])
    router.add_api_route("/jobs/{job_id}/events", jobs.events, methods=["GET"])
    router.add_api_route("/images/{picture_id}", pictures.show, methods=["GET"])


def v1(context: Context) -> APIRouter:
    """All routes below /v1."""
    from danqing.api import account, no_route, openai, people, queue, sharing, training

    router = APIRouter(prefix="/v1", route_class=StrictRoute, default_response_class=SafeJson, responses=RESPONSES)
    openai.add_routes(router, context)
    add_routes(router, context)
    for more in (sharing, account, people, queue, training):
        more.add_routes(router, context)
    no_route.close(router)
    return router
