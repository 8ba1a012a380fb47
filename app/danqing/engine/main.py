"""The engine's process: `python -m danqing.engine.main --socket PATH --data DIR [--keep]`.

Listens on a Unix socket, tells its phases, draws, and exits when the web process goes away (with `--keep`, as a systemd unit
does it, it drops that process's jobs and waits for the next).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing import notify
from danqing.engine.protocol import Message, read_message
from danqing.engine.trainee import Trainee
from danqing.errors import DanqingError
from danqing.request import LIMITS, parsed
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.engine.build import Workshop

STATS_SECONDS = 1.0
TRIM_SECONDS = 20.0
THREAD_SECONDS = 0.5
"""Between two looks whether the engine's thread lives."""


def give_back_memory(seconds: float = TRIM_SECONDS) -> None:
    """From now on, every so many seconds, have the C library return what is free between its blocks (malloc_trim(3)).

    Tensors of many sizes leave gaps, which glibc keeps: an engine on a CPU would grow for hours. Blocks of their own for large
    tensors (M_MMAP_THRESHOLD) would do as well, but cost a sixth of the speed at 512x512.
    """
    import ctypes

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return

    def work() -> None:
        while True:
            time.sleep(seconds)
            trim(0)

    threading.Thread(target=work, name="trim", daemon=True).start()


def step_back(niceness: int) -> None:
    """Lets pages and previews go first where drawing wants every core: this thread, and all that it starts from now on.

    Where the kernel shares the time between sessions before it looks at threads (autogroup), the engine's own session too.
    """
    if not niceness:
        return
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


class EngineThread(threading.Thread):
    """Imports torch, loads, warms up and then steps the engine for ever.

    Args:
        emit: takes messages from this thread.
    """

    def __init__(self, data: Path, settings: Settings, emit: Callable[[Message], None]) -> None:
        super().__init__(name="engine", daemon=True)
        self._data, self._settings, self._tell = data, settings, emit
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._warming = True
        self._last_stats = 0.0
        self._told: list[Message] = []
        self._turns = 0
        self.device_type = "cpu"
        """Where the engine computes, from `ready` on."""

    def put(self, message: Message | None) -> None:
        """A message from the web process; None means that it is gone and its jobs with it."""
        self._inbox.put(message)

    def introduction(self) -> list[Message]:
        """Phases and readiness so far, for a web process that connects later."""
        return list(self._told)

    def pulse(self) -> object:
        """Something new for as long as this thread works: turns of the loop; while it starts up, the clock."""
        if not self.is_alive():
            return None
        return time.monotonic() if self._warming else self._turns

    def run(self) -> None:
        workshop = self._start()
        if workshop is None:
            return
        while True:
            self._turns += 1
            self._read_inbox(workshop, wait=workshop.engine.idle)
            if not workshop.engine.step() and not workshop.engine.idle:
                time.sleep(0.005)  # a checkpoint is being read by another thread
            self._stats(workshop)

    def _start(self) -> Workshop | None:
        try:
            with self._phase("torch"):
                from danqing.engine.imports import first_imports

                first_imports()
                from danqing.engine.build import Workshop

                workshop = Workshop(self._data, self._settings, self._emit)
                if workshop.device.type == "cpu":
                    step_back(self._settings.get_int("engine_nice"))
            with self._phase("model"):
                workshop.load_default()
            with self._phase("warm-up"):
                workshop.warm_up()
        except DanqingError as error:
            if error.code not in ("no_model", "model_broken"):
                raise
            # Without a model nothing can be drawn yet, but one may be dropped into the folder at any time.
        self._warming = False
        self.device_type = workshop.device.type
        self._announce(Message({"event": "ready", "device": workshop.device_name()}))
        return workshop

    @contextlib.contextmanager
    def _phase(self, name: str) -> Any:
        began = time.monotonic()
        self._announce(Message({"event": "phase", "name": name, "state": "running", "seconds": 0.0}))
        state = "failed"
        try:
            yield
            state = "done"
        finally:
            seconds = round(time.monotonic() - began, 3)
            self._announce(Message({"event": "phase", "name": name, "state": state, "seconds": seconds}))

    def _announce(self, message: Message) -> None:
        self._told.append(message)
        self._tell(message)

    def _emit(self, message: Message) -> None:
        if not self._warming:
            self._tell(message)

    def _read_inbox(self, workshop: Workshop, *, wait: bool) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._inbox.get(timeout=STATS_SECONDS) if wait else self._inbox.get_nowait()
                wait = False
                self._obey(workshop, message)

    def _obey(self, workshop: Workshop, message: Message | None) -> None:
        engine = workshop.engine
        if message is None:
            engine.cancel_all()
            return
        op, job = message.body.get("op"), str(message.body.get("job", ""))
        if op == "submit":
            try:
                engine.submit(job, parsed(message.body["request"]), str(message.body.get("share", "")))
            except DanqingError as error:
                self._emit(Message({"event": "failed", "job": job, "error": error.as_dict()}))
        elif op == "interrupt":
            engine.interrupt(job)
        elif op == "skip":
            engine.skip(job)
        elif op == "cancel":
            engine.cancel(job)
        elif op == "relax":
            workshop.runner.relax()
        elif op == "interrogate":
            workshop.interrogate(message, self._emit)
        elif op == "detect":
            workshop.detect(message, self._emit)
        elif op == "translate":
            workshop.translate(message, self._emit)

    def _stats(self, workshop: Workshop) -> None:
        now = time.monotonic()
        if now - self._last_stats >= STATS_SECONDS:
            self._last_stats = now
            workshop.tend()
            self._tell(
                Message({"event": "stats", **workshop.stats(), "acceleration": workshop.runner.compiled.report()})
            )


class Telling(logging.Handler):
    """Sends what is logged here to the web process, whose page shows it."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        super().__init__(logging.INFO)
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()} {record.name}: {record.getMessage()}"[:2000]
        self._emit(Message({"event": "log", "level": record.levelno, "text": line}))


class Server:
    """The socket side: one web process at a time."""

    def __init__(self, socket: Path, keep: bool) -> None:
        self._socket, self._keep = socket, keep
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._peer: asyncio.StreamWriter | None = None
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.thread: EngineThread | None = None
        self.trainee: Trainee | None = None

    def emit(self, message: Message) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closing: nobody is left to hear it
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, message)

    async def run(self) -> None:
        """Until the web process goes away, or, kept, until a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._gone.set)
        self._socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._socket)
        self._socket.chmod(0o600 if not self._keep else 0o660)
        pump = asyncio.create_task(self._pump())
        assert self.thread is not None
        heart = asyncio.create_task(notify.beat(self.thread.pulse))
        watch = asyncio.create_task(self._watch(self.thread))
        notify.notify("READY=1")
        await self._gone.wait()
        for task in (heart, watch, pump):
            task.cancel()
        server.close()
        self._socket.unlink(missing_ok=True)

    async def _watch(self, thread: threading.Thread) -> None:
        # Without its thread this process would listen, answer nothing, and never be started again.
        while thread.is_alive():
            await asyncio.sleep(THREAD_SECONDS)
        self._gone.set()

    async def _pump(self) -> None:
        while True:
            message = await self._outbox.get()
            peer = self._peer
            if peer is not None:
                with contextlib.suppress(ConnectionError):
                    peer.write(message.encode())
                    await peer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._peer is not None or self.thread is None:
            writer.close()
            return
        for message in self.thread.introduction():
            writer.write(message.encode())
        self._peer = writer
        try:
            while (message_in := await read_message(reader)) is not None and message_in.body.get("op") != "stop":
                if message_in.body.get("op") == "restart":
                    self._gone.set()  # whoever started this process starts the next
                    return
                if not self._trains(message_in, self.thread):
                    self.thread.put(message_in)
        finally:
            self._peer = None
            writer.close()
            self.thread.put(None)
            if self.trainee is not None:
                await self.trainee.leave()
            if not self._keep:
                self._gone.set()

    def _trains(self, message: Message, thread: EngineThread) -> bool:
        """Whether a message is about a training; those go past the engine's thread, which may be in a long forward pass."""
        op, job = message.body.get("op"), str(message.body.get("job", ""))
        if self.trainee is None or op not in ("train", "train-end"):
            return False
        if op == "train":
            thread.put(Message({"op": "relax"}))  # what is only kept for speed makes room
            self.trainee.begin(job, str(message.body.get("folder", "")))
        else:
            self.trainee.end(job, kill=bool(message.body.get("kill")))
        return True


async def _main(arguments: argparse.Namespace) -> int:
    from danqing.engine.settings import ROWS, allocator_words

    data = Path(arguments.data).absolute()
    settings = Settings.load_known((*LIMITS, *ROWS), data)
    if words := allocator_words(settings):
        # Read by torch when it first touches the device; what the administrator's environment says stays.
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", words)
    server = Server(Path(arguments.socket), arguments.keep)
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger().addHandler(Telling(server.emit))
    server.thread = EngineThread(data, settings, server.emit)
    thread = server.thread
    server.trainee = Trainee(data, lambda: thread.device_type, server.emit)
    thread.start()
    give_back_memory()
    await server.run()
    await server.trainee.leave()
    return 0 if server.thread.is_alive() else 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="danqing-engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--socket", required=True, help="Unix socket to listen on")
    parser.add_argument("--data", required=True, help="data folder")
    parser.add_argument("--keep", action="store_true", help="stay when the web process goes away")
    status = 1
    try:
        status = asyncio.run(_main(parser.parse_args()))
    except DanqingError as error:
        sys.exit(error.text("en"))
    finally:
        sys.stdout.flush()
    # The engine's thread may be inside a long forward pass; nothing of it is worth waiting for.
    os._exit(status)


if __name__ == "__main__":
    main()
