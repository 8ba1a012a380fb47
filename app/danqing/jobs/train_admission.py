"""What is asked of a training before it may wait: data to learn from, a name that is free, a model, memory and disk enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.errors import DanqingError
from danqing.gallery.store import check_room
from danqing.jobs.board import Board
from danqing.jobs.datasets import Datasets
from danqing.settings import Settings
from danqing.train import folder, memory
from danqing.train.data import report
from danqing.train.folder import Training
from danqing.train.recipe import TrainRequest, check_optimizer
from danqing.train.settings import Limits

if TYPE_CHECKING:
    from danqing.library.index import Library

MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Need:
    """What a training takes of the device, in bytes, and what that has. `parts`: by what it is for. An estimate."""

    bytes: int
    parts: dict[str, int]
    device: int
    free: int

    @property
    def fits(self) -> bool:
        return not self.device or self.bytes <= self.device

    def told(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "bytes": self.bytes,
            "parts": self.parts,
            "device_bytes": self.device,
            "free_bytes": self.free,
            "fits": self.fits,
            "measured": False,
        }


class TrainAdmission:
    """Everything here blocks and belongs into a thread, `enter` excepted.

    Args:
        board: of trainings.
        room: bytes of the device, in all and free now; 0 where that is not known.
    """

    def __init__(
        self,
        data: Path,
        settings: Settings,
        board: Board,
        library: Library,
        room: Callable[[], tuple[int, int]],
    ) -> None:
        self._data, self._settings, self._board, self._library = data, settings, board, library
        self._room = room
        self.limits = Limits.of(settings)
        self.datasets = Datasets(data, self.limits, settings.get_int("disk_reserve_mb"))

    def enter(self, owner: str) -> None:
        """
        Raises:
            DanqingError: `too_many_jobs`.
        """
        count, maximum = self._board.count_of(owner), self._settings.get_int("limit_trainings_per_owner")
        if count >= maximum:
            raise DanqingError("too_many_jobs", count=count, maximum=maximum)

    def need(self, recipe: TrainRequest) -> Need:
        """What the training takes of the device.

        Raises:
            DanqingError: what the library says of the model; `train_family`, `train_needs`.
        """
        check_optimizer(recipe)
        found = memory.estimate_for(self._data, recipe)
        return Need(found.bytes, dict(found.parts), *self._room())

    def prepared(self, recipe: TrainRequest) -> tuple[TrainRequest, Training]:
        """The recipe with its model named, and its new folder.

        Raises:
            DanqingError: `disk_full`, `train_no_pictures` and what else is wrong with the data, `train_name_taken`, `train_room`,
                or what `need` refuses.
        """
        check_room(self._data, self._settings.get_int("disk_reserve_mb"))
        checkpoint = self._library.resolve(recipe.model)
        recipe = recipe.model_copy(update={"model": checkpoint.name})
        self._check_name(recipe)
        need = self.need(recipe)
        if not need.fits:
            raise DanqingError(
                "train_room", needed_mb=need.bytes // MEGABYTE, free_mb=need.device // MEGABYTE, advice=_advice(recipe)
            )
        found = report(Path(recipe.data), recipe.resolution or checkpoint.native_size, self.limits)
        if found.fatal is not None:
            raise found.fatal
        return recipe, folder.create(self._data, recipe)

    def _check_name(self, recipe: TrainRequest) -> None:
        """Of two trainings that wait, the second would find its name taken at the end of the first.

        Raises:
            DanqingError: `train_name_taken`.
        """
        wanted = folder.targets(self._data, recipe)
        for live in self._board.jobs():
            other = Training(self._data / "training" / live.job.request.training)
            try:
                others = folder.targets(self._data, other.recipe())
            except DanqingError:
                continue
            if taken := next((path for path in wanted if path in others), None):
                raise DanqingError("train_name_taken", path=taken.relative_to(self._data).as_posix())


def room_of(stats: Mapping[str, float]) -> tuple[int, int]:
    """Bytes of the engine's device, in all and free now, as the engine tells them: the GPU's, else the machine's."""
    if "device_bytes" in stats:
        return int(stats["device_bytes"]), int(stats.get("device_free", 0))
    page = os.sysconf("SC_PAGE_SIZE")
    whole, free = (os.sysconf(name) * page for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    return int(stats.get("ram_bytes", whole)), int(stats.get("ram_free", free))


def _advice(recipe: TrainRequest) -> str:
    """What would make it smaller, as names of the recipe's fields."""
    steps = []
    if not recipe.gradient_checkpointing:
        steps.append("gradient_checkpointing")
    if recipe.precision == "fp32":
        steps.append("precision fp16")
    if recipe.batch_size > 1:
        steps.append("batch_size 1")
    if recipe.method == "dreambooth":
        steps.append("dreambooth_lora")
    return ", ".join(steps) or "resolution"
