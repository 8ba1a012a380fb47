"""Waiting for a job on behalf of a client that wants its answer in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from danqing.api.context import Context
from danqing.errors import DanqingError
from danqing.jobs.model import Job

Answer = TypeVar("Answer")


async def finished(context: Context, job: Job) -> Job:
    """The job when it is over, with its pictures.

    Raises:
        DanqingError: what the job failed of; `cancelled`; `stopping`, when the server was told to stop first.
    """
    job = await _over(context, job)
    if job.error is not None:
        raise job.error
    if not job.state.final or not (job.pictures or job.interrupted or job.request.script is not None):
        raise DanqingError("cancelled")
    return job


async def _over(context: Context, job: Job) -> Job:
    return await unless_stopping(context, context.service.wait(job.id))


async def unless_stopping(context: Context, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What `work` gives.

    Raises:
        DanqingError: `stopping`, when the server was told to stop first; `work` is cancelled then.
    """
    over = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(context.stopping.wait())
    try:
        await asyncio.wait({over, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            raise DanqingError("stopping")
        return over.result()
    finally:
        over.cancel()
        stopping.cancel()
