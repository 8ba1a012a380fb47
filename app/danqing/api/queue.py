"""/v1/queue and the order of jobs: owners move their own, administrators see, rank, pause and drain."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.api.context import Context
from danqing.api.errors import SafeJson, language_of_request
from danqing.api.fields import example
from danqing.api.jobs import told
from danqing.api.tokens import ADMIN
from danqing.errors import DanqingError
from danqing.jobs.model import JobState, JobView

JobId = Annotated[str, Path(description="The id that POST /v1/jobs answered.", examples=["0" * 32])]


class Place(BaseModel):
    """Body of POST /v1/jobs/{job_id}/place."""

    model_config = example({"place": 0})

    place: Annotated[int, Field(ge=0, le=10**6, description="Among the owner's waiting jobs; 0 is the first.")]


class Priority(BaseModel):
    """Body of POST /v1/jobs/{job_id}/priority."""

    model_config = example({"priority": 5})

    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher goes first; 0 is the usual one.")]


class Drain(BaseModel):
    """Body of POST /v1/queue/drain."""

    model_config = example({"seconds": 60})

    seconds: Annotated[float, Field(ge=0, le=3600, description="How long to wait for what runs.")] = 60.0


class Queue:
    """Everybody's own order, and the whole for administrators."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request) -> Response:
        """Whether the queue is paused, what it warns of, and its jobs in order: all for administrators, else the caller's own."""
        context, language = self._context, language_of_request(request)
        everybody = context.logins.may(request, ADMIN)
        owner = None if everybody else context.owner(request)
        views = await asyncio.to_thread(lambda: context.service.views(owner, active=True, limit=1000))
        rows = [{**told(view, language), "owner": view.job.owner} for view in sorted(views, key=_turn)]
        warning = context.service.readiness().warning
        told_of = None if warning is None else {"code": warning.code, "message": warning.text(language)}
        return SafeJson({"paused": context.service.paused, "warning": told_of, "jobs": rows})

    async def engine(self, request: Request) -> Response:
        """What draws: whether it is ready, its device, whether its networks run compiled, in the caller's language why not."""
        language, found = language_of_request(request), self._context.service.readiness()
        told = found.acceleration
        reason = str(told.get("zh" if language == "zh" else "en", ""))
        compiled = {"state": "eager", "gain": 0.0, "vae_gain": 0.0, "seconds": 0.0} | told | {"message": reason}
        return SafeJson({"ready": found.ready, "device": found.device, "acceleration": compiled})

    async def place(self, request: Request, job_id: JobId, wish: Place) -> Response:
        """Move a waiting job among its owner's; administrators, anybody's."""
        owner = None if self._context.logins.may(request, ADMIN) else self._context.owner(request)
        await self._context.service.reorder(job_id, wish.place, owner)
        return await self._job(request, job_id)

    async def priority(self, request: Request, job_id: JobId, wish: Priority) -> Response:
        """Put a job before or behind everybody else's; administrators only."""
        self._context.require(request, ADMIN)
        await self._context.service.prioritise(job_id, wish.priority)
        return await self._job(request, job_id)

    async def _job(self, request: Request, job_id: str) -> Response:
        view = await asyncio.to_thread(self._context.service.view, job_id)
        return SafeJson(told(view, language_of_request(request)))

    async def pause(self, request: Request) -> Response:
        """Begin no more jobs, also after a restart; what runs goes on. Administrators only."""
        self._context.require(request, ADMIN)
        await self._context.service.pause()
        return self._state()

    async def resume(self, request: Request) -> Response:
        """Begin jobs again; administrators only."""
        self._context.require(request, ADMIN)
        await self._context.service.resume()
        return self._state()

    async def drain(self, request: Request, wish: Drain) -> Response:
        """Pause, and answer when nothing runs any more or the seconds are over; administrators only."""
        self._context.require(request, ADMIN)
        over = asyncio.ensure_future(self._context.service.drain(wish.seconds))
        stopping = asyncio.ensure_future(self._context.stopping.wait())
        await asyncio.wait({over, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not over.done():
            over.cancel()
            raise DanqingError("stopping")
        return self._state(empty=over.result())

    def _state(self, **more: Any) -> Response:
        return SafeJson({"paused": self._context.service.paused, **more})


def _turn(view: JobView) -> tuple[bool, int, float]:
    return (view.job.state is not JobState.RUNNING, view.position, view.job.created)


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes of the queue."""
    queue = Queue(context)
    router.add_api_route("/queue", queue.show, methods=["GET"])
    router.add_api_route("/engine", queue.engine, methods=["GET"])
    for path, handler in (
        ("/queue/drain", queue.drain),
        ("/queue/pause", queue.pause),
        ("/queue/resume", queue.resume),
        ("/jobs/{job_id}/place", queue.place),
        ("/jobs/{job_id}/priority", queue.priority),
    ):
        router.add_api_route(path, handler, methods=["POST"])
