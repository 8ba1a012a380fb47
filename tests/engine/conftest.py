"""Real engines on a small random checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine.build import Workshop
from danqing.engine.calls import Decode
from danqing.engine.protocol import Message
from danqing.engine.scheduler import Kind
from danqing.engine.settings import ROWS
from danqing.errors import DanqingError
from danqing.request import LIMITS, GenerateRequest
from danqing.settings import Settings

from . import tiny


@dataclass
class Drawn:
    """What became of a job."""

    images: dict[int, np.ndarray] = field(default_factory=dict)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)
    latents: list[torch.Tensor] = field(default_factory=list)
    error: DanqingError | None = None
    interrupted: bool = False
    previews: list[bytes] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)


class Bench:
    """An engine with its messages sorted by job, and the rows of every forward written down."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.drawn: dict[str, Drawn] = {}
        self.forwards: list[tuple[Kind, int, set[str]]] = []
        # One thread: other tests run beside these, and threads that wait for each other on a busy machine crawl.
        values = {"engine_threads": 1, **settings}
        self.workshop = Workshop(data, Settings((*LIMITS, *ROWS), values), self._hear)
        self.engine = self.workshop.engine
        run = self.workshop.runner.run

        def watched(kind: Kind, payloads: Any) -> list[Any]:
            if kind is Kind.DECODE:
                for call in payloads:
                    assert isinstance(call, Decode)
                    self.latents.append(call.latent)
            return run(kind, payloads)

        self.latents: list[torch.Tensor] = []
        self.workshop.runner.run = watched  # type: ignore[method-assign]
        inner = self.engine._run

        def watched_run(group: Any) -> Any:
            if group:
                owners = {part.owner.job.id for part in group}
                self.forwards.append((group[0].key.kind, sum(part.rows for part in group), owners))
            return inner(group)

        self.engine._run = watched_run  # type: ignore[method-assign]

    def _hear(self, message: Message) -> None:
        body = message.body
        drawn = self.drawn.setdefault(body["job"], Drawn())
        if body["event"] == "image":
            facts = body["facts"]
            shape = (facts["height"], facts["width"], 3)
            drawn.images[body["index"]] = np.frombuffer(message.blobs[0], np.uint8).reshape(shape)
            drawn.facts[body["index"]] = facts
        elif body["event"] == "failed":
            drawn.error = DanqingError.from_dict(body["error"])
        elif body["event"] == "done":
            drawn.interrupted = body["interrupted"]
        elif body["event"] == "progress":
            drawn.progress.append((body["step"], body["steps"]))
            drawn.previews.extend(message.blobs)

    def finish(self) -> None:
        self.engine.finish()

    def draw(self, **requests: GenerateRequest) -> dict[str, Drawn]:
        """Draw all requests in one company."""
        for name, request in requests.items():
            self.drawn.pop(name, None)
            self.engine.submit(name, request)
        self.finish()
        return {name: self.drawn[name] for name in requests}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("tiny-data")
    tiny.write(data)
    tiny.write(data, "tiny-b", seed=4321)
    return data


@pytest.fixture(scope="session")
def shared_bench(tiny_data: Path) -> Bench:
    """One engine for tests that leave nothing behind."""
    return Bench(tiny_data, engine_gain=10.0)


@pytest.fixture
def make_bench(tiny_data: Path) -> Callable[..., Bench]:

    def make(data: Path = tiny_data, **settings: object) -> Bench:
        return Bench(data, **settings)

    return make
