"""What is asked of a job before it may wait: room in the queue and on the disk, a model that is there, memory enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing import database as db
from danqing.errors import DanqingError
from danqing.gallery.store import check_room, free_mb
from danqing.jobs.board import Board
from danqing.jobs.rules import BlockList
from danqing.request import GenerateRequest
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.library.index import Library
    from danqing.plugins.loading import Plugins


@dataclass(frozen=True, slots=True)
class OwnerLimits:
    """What one owner may have; None leaves it to the settings. `weight`: share of the work, 1 is the usual one."""

    jobs: int | None = None
    images: int | None = None
    weight: float | None = None


class Admission:
    """The checks of one queue. `prepared` and `check_disk` block and belong into a thread."""

    def __init__(self, data: Path, settings: Settings, board: Board, library: Library, plugins: Plugins) -> None:
        self._data, self._settings, self._board = data, settings, board
        self._library, self._plugins = library, plugins
        self._blocked = BlockList(settings.get_str("prompt_blocklist"), data)
        self.limits_of: Callable[[str], OwnerLimits] = lambda owner: OwnerLimits()
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
        own, most = self._board.count_of(owner) + self._coming.count(owner), self.limits_of(owner).jobs
        most = self._settings.get_int("limit_jobs_per_owner") if most is None else most
        if own >= most:
            raise DanqingError("too_many_jobs", count=own, maximum=most)
        self._coming.append(owner)

    def leave(self, owner: str) -> None:
        """It is written, or was refused."""
        self._coming.remove(owner)

    def check_images(self, owner: str, request: GenerateRequest) -> None:
        """
        Raises:
            DanqingError: `too_many_images`, for more in a job than this owner may have.
        """
        most = self.limits_of(owner).images
        if most is not None and request.image_count > most:
            raise DanqingError("too_many_images", count=request.image_count, maximum=most)

    def check_disk(self) -> None:
        """
        Raises:
            DanqingError: `disk_full`.
        """
        check_room(self._data, self._settings.get_int("disk_reserve_mb"))

    def disk_low(self) -> DanqingError | None:
        """The warning before it is full, None while there is room."""
        free = free_mb(self._data)
        return DanqingError("disk_low", free_mb=free) if free < self._settings.get_int("disk_warn_mb") else None

    def prepared(self, request: GenerateRequest) -> GenerateRequest:
        """The request as it is stored: changed by plug-ins, its model named, its seeds drawn.

        Raises:
            DanqingError: what the library says of the model; `prompt_blocked`.
        """
        told: dict[str, Any] = {"request": request.resolved(), "data": self._data}
        for _, changed in self._plugins.calls("danqing_before_job", told):
            if isinstance(changed, GenerateRequest):
                told["request"] = changed
        request = told["request"]
        self._blocked.check(request)
        name = self._library.resolve(request.model).name
        return request.model_copy(update={"model": name}).resolved()


def not_written(error: BaseException, data: Path) -> BaseException:
    """What it means that something could not be written: `disk_full` or `data_busy`; any other error as it is."""
    if db.is_full(error):
        return DanqingError("disk_full", free_mb=free_mb(data))
    return DanqingError("data_busy") if db.is_locked(error) else error
