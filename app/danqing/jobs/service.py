"""The queue as the doors see it: submit, watch, interrupt. Lives in the web process's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.gallery.store import Gallery
from danqing.jobs.model import Job, JobView, Readiness
from danqing.request import GenerateRequest
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.library.index import Library


class JobService:
    """The durable queue and the engine behind it."""

    gallery: Gallery

    def __init__(
        self, data: Path, settings: Settings, *, library: Library, engine_command: Sequence[str] | None = None
    ) -> None: ...

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError

    async def submit(self, request: GenerateRequest, *, owner: str, client: str = "", save: bool = True) -> Job:
        raise NotImplementedError

    def get(self, job_id: str) -> Job:
        raise NotImplementedError

    def view(self, job_id: str) -> JobView:
        raise NotImplementedError

    def views(self, owner: str | None = None, *, active: bool = False, limit: int = 100) -> list[JobView]:
        raise NotImplementedError

    async def wait(self, job_id: str) -> Job:
        raise NotImplementedError

    async def interrupt(self, job_id: str) -> None:
        raise NotImplementedError

    async def cancel(self, job_id: str) -> None:
        raise NotImplementedError

    def changes(self, job_id: str) -> AsyncIterator[JobView]:
        raise NotImplementedError

    def readiness(self) -> Readiness:
        raise NotImplementedError

    def stats(self) -> dict[str, float]:
        raise NotImplementedError
