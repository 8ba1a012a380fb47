"""How the caller's jobs stand, in the WebUI's terms, and stopping them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from danqing.api import images
from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.jobs.model import JobState, JobView


class Progress:
    """GET progress, POST interrupt, POST skip: each for the jobs of whoever asks, never for others'."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request, skip_current_image: bool = False) -> Response:
        """Progress of the caller's job that was started first; 0 when none is on its way."""
        owner = self._context.owner(request)
        options = self._context.options.of(self._context.client(request))
        pictured = not skip_current_image and options["live_previews_enable"]
        return SafeJson(
            await asyncio.to_thread(self._told, owner, pictured, str(options["live_previews_image_format"]))
        )

    def _told(self, owner: str, pictured: bool, kind: str) -> dict[str, Any]:
        view = current(self._context.service.views(owner, active=True, trainings=False))
        if view is None:
            latest = self._context.service.views(owner, limit=1, trainings=False)
            return _answer(0.0, 0.0, _idle(latest[0] if latest else None), None)
        request = view.job.request
        preview = None
        if pictured and view.preview:
            preview = images.preview(view.preview, request.width, request.height, kind)
        progress = fraction(view)
        eta = (time.time() - (view.job.started or view.job.created)) * (1 / progress - 1) if progress else 0.0
        return _answer(progress, max(0.0, eta), _state(view), preview)

    async def interrupt(self, request: Request) -> Response:
        """Stop the caller's running jobs, keeping what is drawn; where none runs, take back the one that is next."""
        for view in await self._mine(request):
            await self._context.service.interrupt(view.job.id)
        return SafeJson({})

    async def skip(self, request: Request) -> Response:
        """End the pictures that are being drawn with what they have, and go on with the job's next."""
        for view in await self._mine(request):
            await self._context.service.skip(view.job.id)
        return SafeJson(None)

    async def _mine(self, request: Request) -> list[JobView]:
        owner = self._context.owner(request)
        views = await asyncio.to_thread(
            lambda: self._context.service.views(owner, active=True, limit=1000, trainings=False)
        )
        running = [view for view in views if view.job.state is JobState.RUNNING]
        return running or views[-1:]


def current(views: list[JobView]) -> JobView | None:
    """The job that progress is told of: the first to have been started, else the next in the queue."""
    running = [view for view in views if view.job.state is JobState.RUNNING]
    return min(running or views, key=lambda view: view.job.started or view.job.created, default=None)


def fraction(view: JobView) -> float:
    """0.01 + batches done / batches + steps of this batch / steps / batches, at most 1; 0 while it waits."""
    if view.job.state is not JobState.RUNNING:
        return 0.0
    number, step = _place(view)
    return min(1.0, 0.01 + (number + step / view.job.request.steps) / _batches(view))


def _batches(view: JobView) -> int:
    """Batches, each twice where hires fix draws it again."""
    return view.job.request.n_iter * (1 if view.job.request.hires is None else 2)


def _place(view: JobView) -> tuple[int, int]:
    """The batch (from 0) and its step. A job's model steps are spread evenly over its batches."""
    request, count = view.job.request, _batches(view)
    done = view.progress * count
    number = min(int(done), count - 1)
    return number, min(request.steps, round((done - number) * request.steps))


def _state(view: JobView) -> dict[str, Any]:
    number, step = _place(view)
    return {
        "skipped": False,
        "interrupted": view.job.interrupted,
        "stopping_generation": False,
        "job": f"scripts_{view.job.request.kind}",
        "job_count": _batches(view),
        "job_timestamp": _timestamp(view.job.started or view.job.created),
        "job_no": number,
        "sampling_step": step,
        "sampling_steps": view.job.request.steps,
    }


def _idle(last: JobView | None) -> dict[str, Any]:
    """The last job's numbers stay; `job_count` 0 is the sign that nothing is drawn."""
    return {
        "skipped": False,
        "interrupted": last is not None and last.job.interrupted,
        "stopping_generation": False,
        "job": "",
        "job_count": 0,
        "job_timestamp": _timestamp(last.job.started or last.job.created) if last else "0",
        "job_no": last.job.request.n_iter if last else 0,
        "sampling_step": 0,
        "sampling_steps": last.job.request.steps if last else 0,
    }


def _answer(progress: float, eta: float, state: dict[str, Any], image: str | None) -> dict[str, Any]:
    return {
        "progress": progress,
        "eta_relative": eta,
        "state": state,
        "current_image": image,
        "textinfo": None,
    }


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.localtime(seconds))
