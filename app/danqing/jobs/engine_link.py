"""The engine's process as the web process sees it: started, connected, started again when it dies.

Whatever happens to the engine (kill -9, no memory, a CUDA fault, a hang before it listens) ends as a lost connection here;
`EngineListener.lost` is told once, then the next engine is started. The engine cannot outlive this process: it exits when its
connection ends, and on Linux the kernel kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import structlog

from danqing.engine import child
from danqing.engine.protocol import Message, read_message
from danqing.errors import DanqingError
from danqing.jobs.model import Phase, Readiness
from danqing.settings import Settings

log = structlog.get_logger(__name__)

SOCKET_PATH_BYTES = 107
"""Longest path that a Unix socket's address holds on Linux."""

LONGEST_WAIT = 15.0
"""Seconds between two starts of an engine that keeps dying."""

GRACE = 3.0
"""Seconds that an engine gets to exit by itself."""

CHILD = Path(child.__file__)
"""The launcher, run as a file."""

_STREAM_LIMIT = 4 * 1024 * 1024
_START = "engine"


class EngineListener(Protocol):
    """Who hears what the engine says."""

    async def ready(self) -> None:
        """The engine can draw."""

    async def message(self, message: Message) -> None:
        """Anything but phases and readiness. Reading goes on when this returns."""

    async def lost(self) -> None:
        """The engine is gone, and with it all that it was drawing."""


class Audience:
    """Several listeners as one; each hears everything, in order."""

    def __init__(self, *listeners: EngineListener) -> None:
        self._listeners = listeners

    async def ready(self) -> None:
        for listener in self._listeners:
            await listener.ready()

    async def message(self, message: Message) -> None:
        for listener in self._listeners:
            await listener.message(message)

    async def lost(self) -> None:
        for listener in self._listeners:
            await listener.lost()


def engine_command(data: Path) -> list[str]:
    """The program that is the engine, without `--socket`."""
    return [sys.executable, "-m", "danqing.engine.main", "--data", str(data)]


class EngineLink:
    """Keeps one engine connected from `run` until it is cancelled.

    Args:
        socket: where the engine listens; None for a private place below `data` (or, when that path is too long, in a
            temporary folder).
        command: starts the engine, `--socket PATH` is appended; None when somebody else starts it.
        restart_seconds: wait before the first restart; doubles while the engine keeps dying.
        connect_seconds: an engine that does not listen by then is killed and started again.
        hang_seconds: an engine that was ready and says nothing for so long (it tells its numbers every second, between two
            forward passes) is killed and started again.
    """

    def __init__(
        self,
        data: Path,
        listener: EngineListener,
        *,
        socket: Path | None,
        command: Sequence[str] | None,
        restart_seconds: float,
        connect_seconds: float,
        hang_seconds: float = 600.0,
    ) -> None:
        self._listener = listener
        self._command = command
        self._restart_seconds = restart_seconds
        self._connect_seconds = connect_seconds
        self._hang_seconds = hang_seconds
        self._word = data / "run" / "gpu-trouble.json"
        self._private: Path | None = None
        self.socket = socket or self._place(data)
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._phases: dict[str, tuple[str, float]] = {}
        self._began = time.monotonic()
        self._deaths = 0
        self._grace = GRACE
        self._reason = ""
        self.is_ready = False
        self.device = ""
        self.starts = 0

    @classmethod
    def of(cls, data: Path, settings: Settings, listener: EngineListener, command: Sequence[str] | None) -> EngineLink:
        """As the settings have it."""
        socket = settings.get_str("engine_socket")
        return cls(
            data,
            listener,
            socket=Path(socket) if socket else None,
            command=command,
            restart_seconds=settings.get_float("engine_restart_seconds"),
            connect_seconds=settings.get_float("engine_connect_seconds"),
            hang_seconds=settings.get_float("engine_hang_seconds"),
        )

    @property
    def pid(self) -> int | None:
        """Of the engine started here."""
        return self._process.pid if self._process else None

    def _place(self, data: Path) -> Path:
        folder = data.absolute() / "run"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.fsencode(folder / "engine.sock")) <= SOCKET_PATH_BYTES:
            return folder / "engine.sock"
        self._private = Path(tempfile.mkdtemp(prefix="danqing-"))
        return self._private / "engine.sock"

    async def run(self) -> None:
        """Keep an engine connected; ends only by being cancelled, and the engine with it."""
        try:
            while True:
                began = time.monotonic()
                await self._once()
                if time.monotonic() - began > LONGEST_WAIT:
                    self._deaths = 1
                wait = min(LONGEST_WAIT, self._restart_seconds * 2 ** min(self._deaths - 1, 16))
                log.warning("engine lost", reason=self._reason, next_start_in=wait)
                await asyncio.sleep(wait)
        finally:
            await self._end_process()
            if self._private:
                shutil.rmtree(self._private, ignore_errors=True)

    async def _once(self) -> None:
        """One engine's life."""
        self._phases.clear()
        self._grace = GRACE
        self._began = time.monotonic()
        self._phase(_START, "running", 0.0)
        try:
            await self._spawn()
            reader, self._writer = await self._connect()
            self._phase(_START, "done", time.monotonic() - self._began)
            await self._listen(reader)
            self._reason = "connection closed"
        except (OSError, DanqingError) as error:
            self._reason = f"{type(error).__name__}: {error}"[:300]
        except Exception as error:
            # Bytes that are none of our frames, or a fault of ours: either way this connection is of no more use.
            log.exception("engine connection failed")
            self._reason = f"{type(error).__name__}: {error}"[:300]
        finally:
            was_ready, self.is_ready = self.is_ready, False
            self._deaths += 1
            await asyncio.shield(self._clean_up())
        if was_ready:
            try:
                await self._listener.lost()
            except Exception:
                log.exception("loss of the engine not handled")

    async def _spawn(self) -> None:
        self.starts += 1
        if self._command is None:
            return
        # A left-over engine of an earlier process may still listen here for a moment: without its name nobody reaches it.
        self.socket.unlink(missing_ok=True)
        launcher = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid())]
        self._process = await asyncio.create_subprocess_exec(
            *launcher,
            *self._command,
            "--socket",
            str(self.socket),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        deadline = time.monotonic() + self._connect_seconds
        while True:
            try:
                return await asyncio.open_unix_connection(self.socket, limit=_STREAM_LIMIT)
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process and self._process.returncode is not None:
                    raise
                if self._command is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"no socket after {self._connect_seconds:g} s") from None
                await asyncio.sleep(0.05)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (message := await self._heard(reader)) is not None:
            event = message.body.get("event")
            if event == "phase":
                self._phase(
                    str(message.body["name"]), str(message.body["state"]), float(message.body.get("seconds", 0))
                )
            elif event == "ready":
                self.is_ready, self.device = True, str(message.body.get("device", ""))
                log.info("engine ready", device=self.device)
                await self._listener.ready()
            else:
                await self._listener.message(message)

    async def _heard(self, reader: asyncio.StreamReader) -> Message | None:
        # While it starts up it may be silent: reading a large model from a slow disk takes as long as it takes.
        try:
            async with asyncio.timeout(self._hang_seconds if self.is_ready else None):
                return await read_message(reader)
        except TimeoutError:
            self._grace = 0.0
            raise TimeoutError(f"silent for {self._hang_seconds:g} s") from None

    def _phase(self, name: str, state: str, seconds: float) -> None:
        # A running phase is kept by when it began, so that its seconds grow while somebody watches.
        self._phases[name] = (state, time.monotonic() - seconds if state == "running" else seconds)

    async def send(self, message: Message) -> None:
        """
        Raises:
            ConnectionError: there is no engine; `EngineListener.lost` is told by itself.
        """
        if self._writer is None:
            raise ConnectionError("no engine")
        self._writer.write(message.encode())
        await self._writer.drain()

    async def _clean_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._end_process()

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), self._grace)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        code = process.returncode or 0
        if code:
            self._reason = f"signal {-code}" if code < 0 else f"exit code {code}"

    def _trouble(self) -> DanqingError | None:
        """Why whoever starts the engine does not start it: `danqing box gpu` leaves word."""
        if self._command is not None:
            return None
        try:
            return DanqingError.from_dict(json.loads(self._word.read_text("utf-8")))
        except (OSError, ValueError, AttributeError):
            return None

    def readiness(self) -> Readiness:
        """Whether the engine can draw, and its phases so far."""
        now = time.monotonic()
        phases = tuple(
            Phase(name, state, round(now - at if state == "running" else at, 3))
            for name, (state, at) in self._phases.items()
        )
        error = None
        if not self.is_ready:
            error = self._trouble()
        if error is None and not self.is_ready and self._deaths:
            error = DanqingError("engine_down", reason=self._reason, tries=self.starts)
        return Readiness(self.is_ready, phases, self.device, error)
