"""The page over stand-ins for the queue, the gallery and the library: handlers are called as Gradio calls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from danqing import app as house
from danqing.engine.interrogators import Manner
from danqing.errors import DanqingError
from danqing.gallery.store import Picture
from danqing.jobs.model import Job, JobState, JobView, Readiness
from danqing.library.index import Checkpoint
from danqing.request import GenerateRequest
from danqing.settings import Settings
from danqing.ui import page
from danqing.ui.board import Board
from danqing.ui.boxes import Boxes
from danqing.ui.context import UiContext
from danqing.ui.drawing import Drawing
from danqing.ui.fields import NAMES
from danqing.ui.session import Session


def picture(
    number: int = 1, *, owner: str = "ann", infotext: str = "", job: str = "job", temporary: bool = False
) -> Picture:
    text = infotext or f"a red star\nSteps: 9, Sampler: Euler, CFG scale: 4.0, Seed: {number}, Size: 96x64, Model: mini"
    return Picture(
        f"p{number}", owner, job, number, Path("/nowhere.png"), 96, 64, number, text, float(number), temporary
    )


@dataclass
class FakeGallery:
    all: list[Picture] = field(default_factory=list)
    data: Path = Path("/nowhere")
    database: Any = field(default_factory=lambda: SimpleNamespace(row=lambda sql, values: values))
    """Everybody has handed every input picture in."""

    def get(self, picture_id: str) -> Picture:
        for one in self.all:
            if one.id == picture_id:
                return one
        raise DanqingError("unknown_picture", picture=picture_id)

    def pictures(self, owner: str | None, *, limit: int, before: float | None = None) -> list[Picture]:
        return [p for p in reversed(self.all) if owner in (None, p.owner)][:limit]

    def of_job(self, job_id: str) -> list[Picture]:
        return [p for p in self.all if p.job == job_id]


@dataclass
class FakeService:
    """Jobs that go on when a test says so."""

    gallery: FakeGallery = field(default_factory=FakeGallery)
    jobs: dict[str, JobView] = field(default_factory=dict)
    interrupted: list[str] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    refuse: Exception | None = None

    async def submit(self, request: GenerateRequest, *, owner: str, client: str = "", save: bool = True) -> Job:
        if self.refuse:
            raise self.refuse
        job = Job(f"j{len(self.jobs) + 1}", owner, request.resolved(), JobState.QUEUED, created=100.0)
        self.jobs[job.id] = JobView(job)
        return job

    async def interrogate(self, image: str, name: str, manner: Manner) -> str:
        return f"{name} sees {image[:4]} with {manner.beams}"

    def get(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise DanqingError("unknown_job", job=job_id)
        return self.jobs[job_id].job

    def views(
        self,
        owner: str | None = None,
        *,
        active: bool = False,
        limit: int = 100,
        trainings: bool = True,
        kind: str = "",
    ) -> list[JobView]:
        found = [v for v in reversed(self.jobs.values()) if owner in (None, v.job.owner)]
        found = [v for v in found if kind in ("", v.job.request.kind)]
        return [v for v in found if not (active and v.job.state.final)][:limit]

    def move(self, job_id: str, state: JobState, *, step: int = 0, **changes: Any) -> None:
        view = self.jobs[job_id]
        job = replace(view.job, state=state, **changes)
        self.jobs[job_id] = replace(view, job=job, step=step, steps=job.request.steps)
        self.moved.set()

    async def changes(self, job_id: str) -> AsyncIterator[JobView]:
        while True:
            self.moved.clear()
            view = self.jobs[job_id]
            yield view
            if view.job.state.final:
                return
            await self.moved.wait()

    async def interrupt(self, job_id: str) -> None:
        self.interrupted.append(job_id)

    def readiness(self) -> Readiness:
        return Readiness(True)


class FakeLibrary:
    models = (
        Checkpoint("danqing-mini.safetensors", Path("/m/danqing-mini.safetensors"), "ab" * 32, None, 128, ""),
        Checkpoint("large.safetensors", Path("/m/large.safetensors"), None, None, 512, ""),
    )

    def checkpoints(self) -> list[Checkpoint]:
        return list(self.models)

    def default(self) -> Checkpoint:
        return self.models[0]

    def resolve(self, name: str) -> Checkpoint:
        for model in self.models:
            if not name or name in model.ids():
                return model
        raise DanqingError("unknown_model", name=name, folder="/m", known="danqing-mini")


@dataclass
class Desk:
    """A page laid out, with its handlers and a way to call them."""

    demo: Any
    board: Board
    service: FakeService
    drawing: Drawing
    boxes: Boxes
    session: Session = field(default_factory=Session)

    def data(self, **values: Any) -> dict[Any, Any]:
        """What Gradio would hand over for these boxes."""
        return self.board.updates(**{"session": self.session, **values})

    def good(self, **values: Any) -> dict[Any, Any]:
        """Boxes that can be drawn."""
        boxes: dict[str, Any] = {name: self.board[name].value for name in (*NAMES, *self.board.plugged)}
        boxes |= {"sampler": "Euler", "scheduler": "Automatic", "seed": "-1", "prompt": "a red star", "model": ""}
        boxes |= {"steps": 5, "width": 64, "height": 64, "cfg_scale": 7, "batch_size": 1, "n_iter": 1}
        return self.data(**{**boxes, **values})

    def named(self, updates: dict[Any, Any]) -> dict[str, Any]:
        return self.board.values(updates)


def a_request(language: str = "en", user: str = "ann") -> Any:
    """A Gradio request of this reader."""
    return SimpleNamespace(headers={"accept-language": language}, request=SimpleNamespace(user=user))


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(house.ROWS)


def context_of(service: FakeService, settings: Settings) -> UiContext:
    return UiContext(service, FakeLibrary(), settings, lambda request: request.user)  # type: ignore[arg-type, attr-defined]


@pytest.fixture(scope="session")
def laid_out(settings: Settings) -> tuple[Any, Board]:
    """The component tree and its names; laying it out takes a while."""
    board = Board()
    return page.build(context_of(FakeService(), settings), board), board


@pytest.fixture
def desk(settings: Settings, laid_out: tuple[Any, Board]) -> Desk:
    demo, board = laid_out
    service = FakeService()
    context = context_of(service, settings)
    return Desk(demo, board, service, Drawing(context, board), Boxes(context, board))


def event(**data: Any) -> Any:
    """What a click inside one of our own parts sends."""
    return gr.EventData(None, data)
