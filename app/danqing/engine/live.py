"""A job in the engine: its plans, those that wait to begin, and how far it is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from danqing.engine.calls import Plan, Track
from danqing.errors import DanqingError
from danqing.request import GenerateRequest

ABREAST = 4
"""Plans of a script that are drawn at once, where its batches are not larger."""

MOST_NOTES = 20
"""A prompt may name thousands of networks."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a request is: plans to run, UNet calls of each, pictures that come of them all."""

    plans: int
    calls: int
    images: int


@dataclass(slots=True, eq=False)
class Picture:
    """A plan on its way, and the answers that its current call still waits for."""

    job: LiveJob
    index: int
    plan: Plan
    track: Track
    parent: Picture | None = None
    """The plan that waits for this one; `index` is then the place among its answers."""
    answers: list[Any] = field(default_factory=list)
    outstanding: int = 0
    joined: bool = False
    """The call's parts are one list of rows, to be handed back as one list."""
    loading: Future[Any] | None = None
    models: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Start:
    """A plan that may begin when there is room."""

    make: Callable[[Track], Plan]
    calls: int
    index: int
    parent: Picture | None = None


@dataclass(slots=True, eq=False)
class LiveJob:
    """A job in the engine. Plans start in order, `batch_size` of them at once at most (more where a script asks)."""

    id: str
    request: GenerateRequest
    extent: Extent
    waiting: deque[Start]
    share: str = ""
    """On whose account its work goes."""
    images: int = 0
    """Pictures handed out."""
    steps: int = 0
    """UNet calls of plans that have ended."""
    live: list[Picture] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    """What the owner has been told beside the pictures (`DanqingError.as_dict`)."""
    interrupted: bool = False
    announced: bool = False
    last_progress: float = 0.0
    last_preview: float = 0.0
    shown: Picture | None = None
    """The plan whose previews are shown."""

    def noted(self, notes: list[DanqingError]) -> list[dict[str, Any]]:
        """Those of a plan's notes, which are taken, that the owner does not know yet: each once in a job, and not too many."""
        fresh = list({note.text("en"): note.as_dict() for note in notes}.values())
        notes.clear()
        fresh = [note for note in fresh if note not in self.notes][: MOST_NOTES - len(self.notes)]
        self.notes += fresh
        return fresh

    @property
    def over(self) -> bool:
        return not self.live and (self.interrupted or not self.waiting)

    @property
    def busy(self) -> int:
        """Plans that compute; those that wait for other plans do not."""
        parents = {id(picture.parent) for picture in self.live} | {id(start.parent) for start in self.waiting}
        return sum(id(picture) not in parents for picture in self.live)

    @property
    def room(self) -> int:
        """Plans that may begin now."""
        abreast = self.request.batch_size
        if self.waiting and self.waiting[0].parent is not None:
            abreast = max(abreast, ABREAST)
        return min(abreast - self.busy, len(self.waiting))


class WorkFuture(Future[Any]):
    """The future of a `Work`: what it gives is no model and is released by nobody."""


def work(run: Callable[[], Any]) -> WorkFuture:
    """Run `run` in a thread that ends with it (see `ModelStore._begin` for why)."""
    future = WorkFuture()

    def target() -> None:
        try:
            result = run()
        except BaseException as error:  # noqa: BLE001 - it belongs to the plan that asked
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=target, name="work", daemon=True).start()
    return future
