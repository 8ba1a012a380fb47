"""Checkpoints in memory: several stay, those in use never leave, the least recently used one makes room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from danqing.engine.calls import Load
from danqing.engine.models import Model
from danqing.library.index import Checkpoint

LoadModel = Callable[[Checkpoint], Model]


class ModelStore:
    """Reads checkpoints in threads of their own, one after another, so that pictures of other models go on meanwhile.

    Args:
        load: reads and builds one checkpoint.
        most: checkpoints kept; more stay only while pictures use them.
        leaving: told of each model that leaves.
    """

    def __init__(self, load: LoadModel, most: int, leaving: Callable[[Model], None] = lambda model: None) -> None:
        self._load, self._most, self._leaving = load, most, leaving
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._models: OrderedDict[tuple[str, int], Future[Model]] = OrderedDict()
        self._users: dict[str, int] = {}

    def acquire(self, call: Load) -> Future[Any]:
        """The model, now or later. Every successful `acquire` is matched by a `release`."""
        checkpoint = call.checkpoint
        key = _key(checkpoint)
        with self._lock:
            future = self._models.get(key)
            if future is None or (future.done() and future.exception() is not None):
                future = self._begin(checkpoint)
                self._models[key] = future
            self._models.move_to_end(key)
            name = str(checkpoint.filename)
            self._users[name] = self._users.get(name, 0) + 1
            self._make_room()
        return future

    def release(self, model: Model) -> None:
        """The caller needs the model no more."""
        with self._lock:
            self._users[model.key] = max(0, self._users.get(model.key, 0) - 1)
            self._make_room()

    def models(self) -> list[Model]:
        """What is in memory now, the least recently used first."""
        with self._lock:
            return [f.result() for f in self._models.values() if f.done() and f.exception() is None]

    def _begin(self, checkpoint: Checkpoint) -> Future[Model]:
        """Read `checkpoint` in a thread that ends with it.

        An idle thread keeps the OpenMP workers that it once used. With more workers than cores libgomp no longer spins
        while it waits: forwards of the miniature model took 100 ms in place of 40.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="load-model")
        future = thread.submit(self._read, checkpoint)
        thread.shutdown(wait=False)
        return future

    def _read(self, checkpoint: Checkpoint) -> Model:
        try:
            with self._turn:
                return self._load(checkpoint)
        except BaseException:
            with self._lock:
                self._users[str(checkpoint.filename)] = 0
            raise

    def _make_room(self) -> None:
        """Let go of the least recently used models that nobody uses, until at most `most` are left."""
        for key in list(self._models):
            if len(self._models) <= self._most:
                return
            future = self._models[key]
            if not future.done() or self._users.get(key[0], 0):
                continue
            del self._models[key]
            if future.exception() is None:
                self._leaving(future.result())


def _key(checkpoint: Checkpoint) -> tuple[str, int]:
    """A file that was replaced on disk is another model."""
    try:
        return str(checkpoint.filename), checkpoint.filename.stat().st_mtime_ns
    except OSError:
        return str(checkpoint.filename), 0
