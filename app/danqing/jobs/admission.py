"""What is asked of a job before it may wait: room in the queue and on the disk, a model that is there, memory enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from danqing.errors import DanqingError
from danqing.gallery.store import free_mb
from danqing.jobs.board import Board
from danqing.request import GenerateRequest
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.library.index import Library


class Admission:
    """The checks of one queue. `prepared` and `check_disk` block and belong into a thread."""

    def __init__(
        self, data: Path, settings: Settings, board: Board, library: Library, plugins: pluggy.PluginManager
    ) -> None:
        self._data, self._settings, self._board = data, settings, board
        self._library, self._plugins = library, plugins
        self._coming: list[str] = []
        """Owners of the jobs that are being written."""

    def enter(self, owner: str) -> None:
        """A job is about to be written; `leave` follows in any case.

        Raises:
            DanqingError: `queue_full` or `too_many_jobs`.
        """
        count, maximum = self._board.waiting + len(self._coming), self._settings.get_int("limit_queue")
        if count >= maximum:
            raise DanqingError("queue_full", count=count, maximum=maximum)
        own, most = (
            self._board.count_of(owner) + self._coming.count(owner),
            self._settings.get_int("limit_jobs_per_owner"),
        )
        if own >= most:
            raise DanqingError("too_many_jobs", count=own, maximum=most)
        self._coming.append(owner)

    def leave(self, owner: str) -> None:
        """It is written, or was refused."""
        self._coming.remove(owner)

    def check_disk(self) -> None:
        """
        Raises:
            DanqingError: `disk_full`.
        """
        free = free_mb(self._data)
        if free < self._settings.get_int("disk_reserve_mb"):
            raise DanqingError("disk_full", free_mb=free)

    def prepared(self, request: GenerateRequest) -> GenerateRequest:
        """The request as it is stored: changed by plug-ins, its model named, its seeds drawn.

        Raises:
            DanqingError: what the library says of the model.
        """
        for implementation in self._plugins.hook.danqing_before_job.get_hookimpls():
            changed = implementation.function(*(request for _ in implementation.argnames))
            request = changed if isinstance(changed, GenerateRequest) else request
        name = self._library.resolve(request.model).name
        return request.model_copy(update={"model": name}).resolved()
