"""A job service on a real SQLite file with the fake engine's program as its child."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from danqing.app import ROWS
from danqing.jobs.service import JobService
from danqing.request import GenerateRequest
from danqing.settings import Settings

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
Running = Callable[..., AbstractAsyncContextManager[JobService]]


class OneModel:
    """A library of one checkpoint."""

    def resolve(self, name: str) -> Any:
        return SimpleNamespace(name=name or "fake.safetensors")


def make_service(
    data: Path, *, step: float = 0.002, settings: dict[str, object] | None = None, library: Any = None
) -> JobService:
    values = {"disk_reserve_mb": 0, "engine_restart_seconds": 0.02, "disk_wait_seconds": 0.05} | (settings or {})
    command = [sys.executable, str(FAKE_ENGINE), "--step", str(step), "--log", str(data / "engine.log")]
    command += ["--data", str(data)]
    data.mkdir(exist_ok=True)
    (data / "engine.log").touch()
    return JobService(data, Settings(ROWS, values), library=library or OneModel(), engine_command=command)  # type: ignore[arg-type]


def a_request(prompt: str = "a red circle", **fields: Any) -> GenerateRequest:
    return GenerateRequest(**{"prompt": prompt, "width": 64, "height": 64, "steps": 4, "seed": 7} | fields)


def drive(work: Coroutine[Any, Any, None], seconds: float = 90) -> None:
    """Run a test's coroutine; one that hangs fails."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(bounded())


async def until(condition: Callable[[], object], seconds: float = 45) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
