"""Waiting for a job on behalf of a client that wants its answer in one go."""

from __future__ import annotations

import asyncio

from danqing.api.context import Context
from danqing.errors import DanqingError
from danqing.jobs.model import Job


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
    over = asyncio.ensure_future(context.service.wait(job.id))
    stopping = asyncio.ensure_future(context.stopping.wait())
    try:
        await asyncio.wait({over, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            raise DanqingError("stopping")
        return over.result()
    finally:
        over.cancel()
        stopping.cancel()
