"""A job and how it stands. No SQL, no HTTP, no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from danqing.errors import DanqingError
from danqing.request import GenerateRequest


class JobState(StrEnum):
    """queued → running → done | failed | cancelled; a restart takes running back to queued."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the queue. Times are seconds since 1970 (UTC)."""

    id: str
    owner: str
    request: GenerateRequest
    state: JobState
    created: float
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    error: DanqingError | None = None
    pictures: tuple[str, ...] = ()
    """Ids in the gallery, in the order of the job's images."""
    interrupted: bool = False
    notes: tuple[DanqingError, ...] = ()
    """What the owner is to know of pictures that were drawn all the same."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as people watch it: the row, and what only memory knows."""

    job: Job
    position: int = 0
    """Jobs ahead of it, those that run included; 0 when it runs or is over."""
    step: int = 0
    steps: int = 0
    image: int = 0
    images: int = 0
    eta: float | None = None
    """Seconds left, estimated from measured speed; None when nothing is known yet."""
    preview: bytes | None = field(default=None, repr=False)
    """PNG at latent size."""
    preview_id: int = 0
    """Grows with every new preview of the job."""
    paused: bool = False
    """A training that its owner has told to wait."""
    loss: float | None = None
    """Of a training's last step."""

    @property
    def progress(self) -> float:
        """0 to 1."""
        if self.job.state.final:
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps else 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of starting up, as `/readyz` and the waiting page tell it."""

    name: str
    state: str
    """running, done or failed"""
    seconds: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a picture could be drawn now, and what starting up took."""

    ready: bool
    phases: tuple[Phase, ...] = ()
    device: str = ""
    error: DanqingError | None = None
    warning: DanqingError | None = None
    """What will keep pictures from being drawn before long."""
    acceleration: dict[str, Any] = field(default_factory=dict)
    """Whether the engine runs compiled code, and why not: `CompiledNetworks.report` as the engine told it last."""
