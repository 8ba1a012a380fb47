"""Checkpoints in memory: several stay, those in use never leave, the least recently used one makes room.

VAEs from files of their own are kept apart, so that another VAE is not another checkpoint.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from danqing.engine.calls import Load
from danqing.engine.models import ExternalVae, Model, load_vae, state_of
from danqing.engine.parking import Parking
from danqing.library.index import Checkpoint, stamp_of

LoadModel = Callable[[Checkpoint], Model]
LoadVae = Callable[[Path, Model], ExternalVae]

VAES = 4
"""External VAEs kept; each has a tenth of a checkpoint's size."""

Key = tuple[str, int, str]
"""Path and modification time: a file that was replaced on disk is another. Of a checkpoint also its YAML's, of a VAE what it was
built for."""

T = TypeVar("T")


class ModelStore:
    """Reads checkpoints in threads of their own, one after another, so that pictures of other models go on meanwhile.

    Args:
        load: reads and builds one checkpoint.
        most: checkpoints kept; more stay only while pictures use them.
        leaving: told of each model that leaves.
        load_vae: reads and builds an external VAE for a checkpoint.
        parking: where models that make room for another wait; None lets them go.
    """

    def __init__(
        self,
        load: LoadModel,
        most: int,
        leaving: Callable[[Model], None] = lambda model: None,
        load_vae: LoadVae = load_vae,
        parking: Parking | None = None,
    ) -> None:
        self._load, self._most, self._leaving, self._load_vae = load, most, leaving, load_vae
        self._parking = parking or Parking(torch.device("cpu"), 0)
        self._departing: list[tuple[Key, Model]] = []
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._models: OrderedDict[Key, Future[Model]] = OrderedDict()
        self._vaes: OrderedDict[Key, Future[ExternalVae]] = OrderedDict()
        self._users: dict[Key, int] = {}
        self._keys: dict[str, Key] = {}

    def acquire(self, wanted: Load | Checkpoint) -> Future[Any]:
        """The model, now or later. Every successful `acquire` is matched by a `release`."""
        call = wanted if isinstance(wanted, Load) else Load(wanted)
        key = state_of(call.checkpoint)
        with self._lock:
            future = self._models.get(key)
            if future is None or (future.done() and future.exception() is not None):
                self._make_room(self._most - 1 if future is None else self._most, park=True)
                future = _in_thread(lambda: self._read(call.checkpoint, key))
                self._models[key] = future
            self._models.move_to_end(key)
            self._users[key] = self._users.get(key, 0) + 1
            self._make_room()
            base = future
        return base if call.vae is None else self._with_vae(base, call.vae, key)

    def release(self, model: Model) -> None:
        """The caller needs the model no more."""
        with self._lock:
            key = self._keys.get(model.key)
            if key is not None:
                self._users[key] = max(0, self._users.get(key, 0) - 1)
            self._make_room()

    def models(self) -> list[Model]:
        """What is in memory now, the least recently used first."""
        with self._lock:
            return [f.result() for f in self._models.values() if f.done() and f.exception() is None]

    def vaes(self) -> list[ExternalVae]:
        """The external VAEs in memory, the least recently used first."""
        with self._lock:
            return [f.result() for f in self._vaes.values() if f.done() and f.exception() is None]

    def _with_vae(self, base: Future[Model], path: Path, owner: Key) -> Future[Model]:
        """The checkpoint with another VAE: at once when both are in memory."""
        if base.done() and base.exception() is None:
            known = self._known_vae(path, base.result())
            if known is not None:
                ready: Future[Model] = Future()
                ready.set_result(base.result().with_vae(known))
                return ready
        return _in_thread(lambda: self._join(base, path, owner))

    def _join(self, base: Future[Model], path: Path, owner: Key) -> Model:
        try:
            model = base.result()
            with self._turn:
                known = self._known_vae(path, model)
                vae = known or self._load_vae(path, model)
            if known is None:
                self._keep_vae(path, model, vae)
        except BaseException:
            if base.exception() is None:
                with self._lock:
                    self._users[owner] = max(0, self._users.get(owner, 0) - 1)
                    self._make_room()
            raise
        return model.with_vae(vae)

    def _known_vae(self, path: Path, model: Model) -> ExternalVae | None:
        key = _vae_key(path, model)
        with self._lock:
            future = self._vaes.get(key)
            if future is None:
                return None
            self._vaes.move_to_end(key)
            return future.result()

    def _keep_vae(self, path: Path, model: Model, vae: ExternalVae) -> None:
        done: Future[ExternalVae] = Future()
        done.set_result(vae)
        with self._lock:
            self._vaes[_vae_key(path, model)] = done
            # Pictures that use one hold it themselves.
            while len(self._vaes) > VAES:
                self._vaes.popitem(last=False)

    def _read(self, checkpoint: Checkpoint, key: Key) -> Model:
        try:
            with self._turn:
                self._park_departing()
                model = self._parking.take(key) or self._load(checkpoint)
            with self._lock:
                self._keys[model.key] = key
        except BaseException:
            with self._lock:
                self._users[key] = 0
            raise
        return model

    def _park_departing(self) -> None:
        with self._lock:
            departing, self._departing = self._departing, []
        for key, model in departing:
            self._parking.park(key, model)

    def drop_unused(self) -> None:
        """Let go of every model and VAE that no picture uses."""
        with self._lock:
            self._make_room(0)
            self._departing.clear()
            self._vaes.clear()

    def _make_room(self, most: int | None = None, *, park: bool = False) -> None:
        """Let go of the least recently used models that nobody uses, until at most `most` are left. With `park` the thread that
        loads next puts them into the host's memory first."""
        for key in list(self._models):
            if len(self._models) <= (self._most if most is None else most):
                return
            future = self._models[key]
            if not future.done() or self._users.get(key, 0):
                continue
            del self._models[key]
            self._users.pop(key, None)
            if future.exception() is None:
                self._keys.pop(future.result().key, None)
                self._leaving(future.result())
                if park:
                    self._departing.append((key, future.result()))


def _in_thread(run: Callable[[], T]) -> Future[T]:
    """Run something long in a thread that ends with it.

    An idle thread keeps the OpenMP workers that it once used. With more workers than cores libgomp no longer spins while it
    waits: forwards of the miniature model took 100 ms in place of 40.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="load-model")
    future = thread.submit(run)
    thread.shutdown(wait=False)
    return future


def _vae_key(path: Path, model: Model) -> Key:
    unet, stamp = model.unet, stamp_of(path)
    wanted = f"{model.architecture.scale} {unet.device} {unet.dtype} {model.architecture.vae.groups}"
    return str(path), stamp[2] if stamp else 0, wanted
