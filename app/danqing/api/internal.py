"""/internal: what the WebUI's own page asks for and some clients use (spec 4)."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from danqing import __version__
from danqing.api import images, no_route
from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import RESPONSES, SafeJson
from danqing.api.fields import example
from danqing.api.lists import Route, memory_of_machine
from danqing.api.progress import fraction
from danqing.errors import DanqingError
from danqing.jobs.model import JobState, JobView

FORMATS = {"png": "png", "jpeg": "jpeg", "webp": "webp"}


class TaskQuestion(BaseModel):
    """Body of POST progress."""

    model_config = example({"id_task": "task(txt2img-ABC1234)"})

    id_task: str
    id_live_preview: int = -1
    live_preview: bool = True


def internal(context: Context) -> APIRouter:
    """All routes below /internal."""
    router = APIRouter(
        prefix="/internal", route_class=StrictRoute, default_response_class=SafeJson, responses=RESPONSES
    )
    routes = Internal(context)
    reading: dict[str, Route] = {
        "/ping": routes.ping,
        "/pending-tasks": routes.pending_tasks,
        "/sysinfo": routes.sysinfo,
        "/sysinfo-download": routes.sysinfo_download,
        "/profile-startup": routes.profile_startup,
        "/quicksettings-hint": routes.quicksettings_hint,
    }
    no_route.fill(router, reading, {"/progress": routes.progress})
    return router


class Internal:
    """The routes. Tasks are the caller's own: nobody sees the names of others'."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def ping(self) -> Response:
        """The server answers."""
        return SafeJson({})

    async def pending_tasks(self, request: Request) -> Response:
        """Task ids of the caller's jobs that wait or run, in the order of the queue."""
        return SafeJson(await asyncio.to_thread(self._pending, self._context.owner(request)))

    def _pending(self, owner: str) -> dict[str, Any]:
        names = self._context.tasks.names(owner)
        views = self._context.service.views(owner, active=True, limit=1000, trainings=False)
        tasks = [names.get(view.job.id, view.job.id) for view in reversed(views)]
        return {"size": len(tasks), "tasks": tasks}

    async def progress(self, request: Request, body: TaskQuestion) -> Response:
        """How one task stands."""
        return SafeJson(await asyncio.to_thread(self._progress, request, body))

    def _progress(self, request: Request, body: TaskQuestion) -> dict[str, Any]:
        context, owner = self._context, self._context.owner(request)
        job = context.tasks.job(owner, body.id_task) or body.id_task
        try:
            view = context.service.view(job)
        except DanqingError:
            return _task(textinfo="Waiting...")
        if view.job.owner != owner:
            return _task(textinfo="Waiting...")
        if view.job.state.final:
            return _task(completed=True, textinfo="Waiting...")
        if view.job.state is JobState.QUEUED:
            place = f"In queue: {view.position + 1}/{int(context.service.stats()['jobs_waiting'])}"
            return _task(queued=True, textinfo=place)
        return _task(active=True, **self._running(view, body, request))

    def _running(self, view: JobView, body: TaskQuestion, request: Request) -> dict[str, Any]:
        done = fraction(view)
        elapsed = time.time() - (view.job.started or view.job.created)
        told: dict[str, Any] = {"progress": done, "eta": max(0.0, elapsed * (1 / done - 1)) if done else None}
        options = self._context.options.of(self._context.client(request))
        if (
            body.live_preview
            and options["live_previews_enable"]
            and view.preview
            and view.preview_id != body.id_live_preview
        ):
            kind = FORMATS.get(str(options["live_previews_image_format"]), "png")
            drawn = images.preview(view.preview, view.job.request.width, view.job.request.height, kind)
            told |= {"live_preview": f"data:image/{kind};base64,{drawn}", "id_live_preview": view.preview_id}
        else:
            told["id_live_preview"] = body.id_live_preview
        return told

    async def sysinfo(self, request: Request, attachment: bool = False) -> Response:
        """This program and this machine, without names of people, models or folders."""
        text = json.dumps(await asyncio.to_thread(self._sysinfo), indent=4)
        name = f"sysinfo-{time.strftime('%Y-%m-%d-%H-%M')}.json"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'} if attachment else {}
        return Response(text, media_type="application/json" if attachment else "text/plain", headers=headers)

    async def sysinfo_download(self, request: Request) -> Response:
        """The same as a file."""
        return await self.sysinfo(request, attachment=True)

    def _sysinfo(self) -> dict[str, Any]:
        readiness = self._context.service.readiness()
        return {
            "Platform": platform.platform(),
            "Python": platform.python_version(),
            "Version": f"danqing {__version__}",
            "CPU": {"model": platform.machine(), "count": os.cpu_count()},
            "RAM": memory_of_machine(),
            "Engine": {"ready": readiness.ready, "device": readiness.device},
        }

    async def profile_startup(self) -> Response:
        """Seconds of each phase of the engine's start."""
        phases = self._context.service.readiness().phases
        records = {phase.name: round(phase.seconds, 4) for phase in phases}
        return SafeJson({"total": round(sum(records.values()), 4), "records": records})

    async def quicksettings_hint(self) -> Response:
        """Every option by its key."""
        return SafeJson(
            [
                {"name": option.key, "label": option.label or option.key}
                for option in self._context.options.table.values()
            ]
        )


def _task(**told: Any) -> dict[str, Any]:
    return {
        "active": False,
        "queued": False,
        "completed": False,
        "progress": None,
        "eta": None,
        "live_preview": None,
        "id_live_preview": -1,
        "textinfo": None,
        **told,
    }
