"""A training beside the engine: a process of its own, which dies with this one. No torch.

The worker keeps its state on disk and goes on from there, so nothing here is worth waiting long for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from danqing.engine.protocol import Message

FOLDER = re.compile(r"[0-9a-f]{16}")
"""Names of trainings' folders: nothing else is started."""

GRACE = 2.0
"""Seconds that a worker gets to save its state when the engine ends."""

PATIENCE = 60.0
"""Seconds that a worker gets to save its state when it is paused: a full checkpoint is gigabytes."""

NOT_STARTED = 127
"""Exit code of a worker that could not be started, as shells have it."""

OOM_SCORE = "900"
"""Where memory runs out the kernel kills the training first: it loses the least."""

NICENESS = "10"
"""On a CPU a training must not be where drawing wants to be."""


class Trainee:
    """At most one training. Belongs to the event loop of the process's main thread, whose end is what the kernel watches.

    Args:
        data: the data root.
        device: "cpu" or "cuda", once it is known.
        emit: takes `trained`, with the exit code, when a training has ended.
        worker: the program, to which the training's folder is given.
    """

    def __init__(
        self,
        data: Path,
        device: Callable[[], str],
        emit: Callable[[Message], None],
        worker: Sequence[str] = (sys.executable, "-m", "danqing.train.worker"),
    ) -> None:
        self._data, self._device, self._emit, self._worker = data, device, emit, worker
        self._turn = asyncio.Lock()
        self._job = ""
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[str] = set()
        """Jobs whose turn has not come."""

    def begin(self, job: str, folder: str) -> None:
        """Start the training in `DATA/training/FOLDER` as soon as the one before has ended."""
        self._waiting.add(job)
        self._spawn(self._run(job, folder))

    def end(self, job: str, *, kill: bool = False) -> None:
        """Have a training save its state and end; with `kill` without saving."""
        process = self._process
        if process is None or job != self._job:
            self._waiting.discard(job)
        elif kill:
            _signal(process, signal.SIGKILL)
        else:
            self._spawn(self._let_go(process, PATIENCE))

    async def leave(self) -> None:
        """Nobody listens any more: what runs saves its state and ends."""
        if self._process is not None:
            await self._let_go(self._process, GRACE)

    async def _run(self, job: str, folder: str) -> None:
        async with self._turn:
            wanted = job in self._waiting
            self._waiting.discard(job)
            if not wanted or not FOLDER.fullmatch(folder):
                self._emit(Message({"event": "trained", "job": job, "code": 0}))
                return
            self._job = job
            try:
                code = await self._worked(self._data / "training" / folder)
            except OSError:
                code = NOT_STARTED
            finally:
                self._job, self._process = "", None
        self._emit(Message({"event": "trained", "job": job, "code": code}))

    async def _worked(self, folder: Path) -> int:
        with (folder / "worker.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(folder), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text(OOM_SCORE)
        return await self._process.wait()

    def _command(self, folder: Path) -> Sequence[str]:
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")), str(os.getpid())]
        device = self._device()
        low = ["nice", "-n", NICENESS] if device == "cpu" and shutil.which("nice") else []
        return [*launcher, *low, *self._worker, str(folder), "--data", str(self._data), "--device", device]

    async def _let_go(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        _signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            _signal(process, signal.SIGKILL)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
