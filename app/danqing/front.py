"""The door that is open before anything heavy is imported.

`serve` binds the port first, starts the queue and the engine's process, and imports the page and the API meanwhile in a
thread. Until they are there, `Front` answers: /healthz (alive), /readyz (phases), a waiting page for people and 503 for
programs. Then it hands every request over to the app. Standard library and uvicorn only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn

from danqing import notify
from danqing.doorstep import Protocol, more_descriptors
from danqing.errors import DanqingError, language_of_headers

if TYPE_CHECKING:
    from danqing.jobs.service import JobService
    from danqing.settings import Settings

T = TypeVar("T")
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WAITING_PAGE = Path(__file__).parent / "assets" / "front" / "waiting.html"
RETRY_SECONDS = 2
INCARNATION = "x-danqing-start"
"""Of /healthz: another value is another process, which a page that looks every few seconds would not see otherwise."""
M_MMAP_THRESHOLD, LARGE_BLOCK = -3, 2**20
"""Of malloc.h, and bytes."""
WORKERS = 32
"""Threads for what would hold up the event loop; most of them wait for the disk."""

HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
    ),
}


@dataclass(frozen=True, slots=True)
class Door:
    """Where to listen, for whom, and on which data. `login`: whether a login is asked."""

    host: str
    port: int
    data: Path
    login: bool


@dataclass
class OwnPhase:
    """A part of starting up that happens in this process."""

    name: str
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    failed: bool = False

    def as_dict(self) -> dict[str, Any]:
        seconds = time.monotonic() - self.started if self.seconds is None else self.seconds
        state = "failed" if self.failed else "running" if self.seconds is None else "done"
        return {"name": self.name, "state": state, "seconds": round(seconds, 2)}


class Front:
    """The ASGI app that uvicorn runs, before and after the real one is there."""

    def __init__(self, door: Door, settings: Settings) -> None:
        self.door, self.settings = door, settings
        self.app: App | None = None
        self.knows: Callable[[Scope], bool] | None = None
        """Whether a request comes from somebody who is logged in."""
        self.service: JobService | None = None
        self.failure: BaseException | None = None
        self.phases: list[OwnPhase] = []
        self.stopping = False
        self._incarnation = secrets.token_hex(8)
        self._down = asyncio.Event()
        self._boot: asyncio.Task[None] | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] == "/healthz":
            await answer(send, 200, b"ok", "text/plain; charset=utf-8", {INCARNATION: self._incarnation})
        elif scope["type"] == "http" and scope["path"] == "/readyz":
            await self._ready(scope, send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._wait(scope, send)
        else:
            await send({"type": "websocket.close", "code": 1013})

    def stop(self) -> None:
        """The server was told to stop: requests that wait for pictures end."""
        self.stopping = True
        self.on_stop()

    def readiness(self) -> dict[str, Any]:
        """What /readyz says: nothing about users, models or the machine."""
        phases = [phase.as_dict() for phase in self.phases]
        ready = False
        answer: dict[str, Any] = {}
        if self.service is not None:
            engine = self.service.readiness()
            ready = engine.ready and self.app is not None and not self.stopping
            phases += [{"name": p.name, "state": p.state, "seconds": round(p.seconds, 2)} for p in engine.phases]
            if engine.error is not None:
                answer["error"] = engine.error.code
        return {"ready": ready, "page": self.app is not None, **answer, "phases": phases}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of starting up for /readyz."""
        phase = OwnPhase(name)
        self.phases.append(phase)
        try:
            yield
        except BaseException:
            phase.failed = True
            raise
        finally:
            phase.seconds = time.monotonic() - phase.started

    async def _ready(self, scope: Scope, send: Send) -> None:
        state = self.readiness()
        known = self.knows is not None and self.knows(scope)
        warning = self.service.readiness().warning if self.service is not None and known else None
        if warning is not None:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            state["warning"] = {"code": warning.code, "message": warning.text(language_of_headers(headers))}
        await answer(send, 200 if state["ready"] else 503, json.dumps(state).encode(), "application/json")

    async def _wait(self, scope: Scope, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        language = language_of_headers(headers)
        if "text/html" in headers.get("accept", "") and not scope["path"].startswith("/sdapi/"):
            page = WAITING_PAGE.read_text("utf-8").replace('lang="en"', f'lang="{language}"', 1)
            await answer(send, 503, page.encode(), "text/html; charset=utf-8")
            return
        error = DanqingError("engine_not_ready")
        body = {"error": "EngineNotReady", "detail": error.text(language), "body": "", "errors": error.text(language)}
        await answer(send, 503, json.dumps(body, ensure_ascii=False).encode(), "application/json")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._boot = asyncio.create_task(self._run())
        # The clock is always new: what is watched is that the event loop turns.
        heart = asyncio.create_task(notify.beat(time.monotonic))
        notify.notify("READY=1")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        heart.cancel()
        self._down.set()
        if self.app is None:
            self._boot.cancel()
        await asyncio.gather(self._boot, return_exceptions=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        try:
            await self._start_and_hold()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - told by `serve`
            self.failure = error
            self.on_failure()

    async def _start_and_hold(self) -> None:
        from danqing import app as house

        settings = self.settings
        house.configure_logging(settings)
        library, service = house.rooms(self.door.data, settings)
        with self.phase("queue"):
            await service.start()
        self.service = service
        try:
            with self.phase("page"):
                app = await in_thread(
                    lambda: house.build(service, library, settings, house.logins(self.door, settings))
                )
            self.on_stop, self.knows = app.state.stopping.set, app.state.knows
            async with app.router.lifespan_context(app):
                self.app = app
                await self._down.wait()
        finally:
            await service.stop()


async def answer(send: Send, status: int, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
    """One whole response; a 503 says when to come back."""
    headers = {**HEADERS, "content-type": kind, "content-length": str(len(body)), **(more or {})}
    if status == 503:
        headers["retry-after"] = str(RETRY_SECONDS)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def in_thread(work: Callable[[], T]) -> T:
    """`work` in a daemon thread: unlike a pool's, it does not hold up an exit in the middle of an import."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 - raised again where it is awaited
            error = caught
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="danqing-boot", daemon=True).start()
    return await future


def bind(host: str, port: int) -> socket.socket:
    """A listening socket: from here on nobody is refused.

    Raises:
        DanqingError: `port_taken` or `cannot_listen`.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        if error.errno is not None and error.errno == 98:
            raise DanqingError("port_taken", host=host, port=port) from None
        raise DanqingError("cannot_listen", host=host, port=port, reason=error.strerror or str(error)) from None
    return listener


class Server(uvicorn.Server):
    """uvicorn that ends quietly on a signal and at once on a second one."""

    def __init__(self, config: uvicorn.Config, front: Front) -> None:
        super().__init__(config)
        self.front = front
        self._loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        # A signal handler runs between any two instructions: only the thread-safe call may touch the loop.
        self._loop.call_soon_threadsafe(self.front.stop)


def serve(door: Door) -> int:
    """Serve until a signal; the exit code.

    Raises:
        DanqingError: what the caller must mend: the port, the settings, the data folder.
    """
    # A signal must end this quietly also before there is a server that hears it; nothing is started yet that needs an end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    listener = bind(door.host, door.port)
    sys.stdout.write(f"Danqing 丹青 http://{shown(door.host)}:{listener.getsockname()[1]}/\n")
    sys.stdout.flush()
    return asyncio.run(_serve(door, listener))


def shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def give_back_memory() -> None:
    """Have the C library return large blocks to the system as soon as they are freed.

    glibc learns otherwise (mallopt(3), M_MMAP_THRESHOLD): after the first large picture it keeps what it took for others, once
    for each thread that ever decoded one.
    """
    # Another C library has no such call; a sandbox without memory that may be written and run may not even load ctypes.
    with contextlib.suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes

        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


async def _serve(door: Door, listener: socket.socket) -> int:
    from danqing.app import load_settings

    settings = load_settings(door.data)
    give_back_memory()
    more_descriptors()
    # asyncio's own pool has four threads more than there are cores: pictures on their way to the disk and writes that wait
    # for the database would keep pages waiting.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKERS, "danqing"))
    front = Front(door, settings)
    config = uvicorn.Config(
        front,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # The address of a peer is what it is; whom to believe about others is a setting, read by the app.
        proxy_headers=False,
        timeout_graceful_shutdown=settings.get_int("shutdown_seconds"),
    )
    server = Server(config, front)

    def fail() -> None:
        server.should_exit = True

    front.on_failure = fail
    await server.serve(sockets=[listener])
    if server.force_exit:
        return 130
    if front.failure is not None:
        raise front.failure
    return 0
