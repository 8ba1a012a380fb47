"""What users who were removed have left: tokens, jobs, pictures, options, presets, pictures to train on.

The page removes users in this process, `danqing user remove` in another one, or while no server runs. So the users' file is
looked at from the start on: whoever is marked as removed in it and was not cleared away yet, is.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator

import structlog

from danqing.api.auth import Logins
from danqing.api.context import USER
from danqing.api.options import Options
from danqing.api.users import MOST_JOBS
from danqing.errors import DanqingError
from danqing.gallery import presets
from danqing.gallery.export import pictures_of
from danqing.gallery.shelf import Shelf
from danqing.jobs.service import JobService

LOOK_SECONDS = 3.0
"""Between two looks at the users' file."""

log = structlog.get_logger(__name__)


class Removed:
    """Clears away, for one app."""

    def __init__(self, service: JobService, options: Options, logins: Logins) -> None:
        self._service, self._options, self._logins = service, options, logins
        self._cleared: set[str] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look from time to time, while the server runs and where there are logins."""
        task = asyncio.create_task(self._watch()) if self._logins.required else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                for name in await asyncio.to_thread(self._logins.users.removed):
                    if name not in self._cleared:
                        await self.clear(name)
            except (DanqingError, OSError, sqlite3.Error) as error:
                # A full disk, say: what is left is cleared away at another look.
                log.warning("what removed users have left", error=str(error)[:200])
            await asyncio.sleep(LOOK_SECONDS)

    async def clear(self, name: str) -> int:
        """Everything of a user who was removed; how many pictures went into the trash. Nothing is left to do the second time."""
        for view in await asyncio.to_thread(self._service.views, name, active=True, limit=MOST_JOBS):
            await self._service.cancel(view.job.id)
        count = await asyncio.to_thread(self._clear, name)
        self._cleared.add(name)
        return count

    def _clear(self, name: str) -> int:
        tokens, gallery = self._logins.tokens, self._service.gallery
        for token in tokens.of(name):
            tokens.revoke(token.id, name)
        self._options.forget(USER + name)
        presets.forget(gallery.data, name)
        self._service.training.datasets.remove_all(name)
        return Shelf(gallery, gallery.database).discard(name, [picture.id for picture in pictures_of(gallery, name)])
