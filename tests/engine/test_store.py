"""Models in memory: who stays, who leaves, what is read again."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from danqing.engine.calls import Load
from danqing.engine.models import ExternalVae, Model
from danqing.engine.store import VAES, ModelStore
from danqing.errors import DanqingError
from danqing.library.architecture import Architecture
from danqing.library.index import Checkpoint
from danqing.library.shapes import TextShape, UnetShape, VaeShape

SHAPES = Architecture(
    UnetShape(4, (32,), (True,), 2, 8, 64, 32), VaeShape((32,), 2, 32), (TextShape(64, 2, 4, 256, 100, 77, "gelu"),)
)


def known(text: str) -> Future[str]:
    done: Future[str] = Future()
    done.set_result(text)
    return done


class Disk:
    """Stands in the place of reading: counts, and fails for files called "broken"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: list[str] = []
        self.left: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def checkpoint(self, name: str) -> Checkpoint:
        path = self.folder / name
        if not path.exists():
            path.write_text(name)
        return Checkpoint(name, path, None, None, 512, "")

    def load(self, checkpoint: Checkpoint) -> Model:
        self.gate.wait(10)
        self.read.append(checkpoint.name)
        if "broken" in checkpoint.name:
            raise DanqingError("model_broken", name=checkpoint.name, reason="test")
        key = f"{checkpoint.filename}:{checkpoint.filename.stat().st_mtime_ns}"
        unet = SimpleNamespace(device="cpu", dtype="float32")
        nothing: Any = None
        return Model(checkpoint, SHAPES, unet, "own", (), nothing, nothing, known(""), key=key)

    def load_vae(self, path: Path, like: Model) -> ExternalVae:
        self.read.append(path.name)
        if "broken" in path.name:
            raise DanqingError("model_broken", name=path.name, reason="test")
        return ExternalVae(path, path.name, known("ab" * 32))

    def store(self, most: int = 2) -> ModelStore:
        return ModelStore(self.load, most, lambda model: self.left.append(model.checkpoint.name), self.load_vae)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def use(store: ModelStore, call: Load) -> Model:
    model: Model = store.acquire(call).result(10)
    store.release(model)
    return model


def held(store: ModelStore) -> list[str]:
    return [model.checkpoint.name for model in store.models()]


def test_models_stay_until_others_need_their_place(disk: Disk) -> None:
    store = disk.store()
    for name in ("a", "b", "a", "c"):
        use(store, Load(disk.checkpoint(name)))
    assert (disk.read, disk.left, held(store)) == (["a", "b", "c"], ["b"], ["a", "c"])


def test_switching_between_two_does_not_touch_the_disk(disk: Disk) -> None:
    store = disk.store()
    for name in ("a", "b") * 5:
        use(store, Load(disk.checkpoint(name)))
    assert disk.read == ["a", "b"]


def test_models_in_use_do_not_leave(disk: Disk) -> None:
    store = disk.store(most=1)
    first = store.acquire(Load(disk.checkpoint("a"))).result(10)
    use(store, Load(disk.checkpoint("b")))
    assert "a" in held(store)
    store.release(first)
    assert len(held(store)) == 1


def test_another_vae_is_not_another_checkpoint(disk: Disk) -> None:
    store = disk.store()
    one, two = disk.folder / "one.vae", disk.folder / "two.vae"
    for path in (one, two):
        path.write_text("")
    a = disk.checkpoint("a")
    models = [use(store, Load(a, vae)) for vae in (one, None, two, one, two, None)]
    assert disk.read == ["a", "one.vae", "two.vae"]
    assert [model.vae for model in models] == ["one.vae", "own", "two.vae", "one.vae", "two.vae", "own"]
    assert [model.vae_name for model in models[:2]] == ["one.vae", None]
    assert models[0].vae_hash == "ababababab"
    assert models[0].unet is models[1].unet
    assert len({model.key for model in models}) == 1
    assert store.acquire(Load(a, one)).done()


def test_a_checkpoint_used_with_another_vae_is_in_use(disk: Disk) -> None:
    store = disk.store(most=1)
    (disk.folder / "one.vae").write_text("")
    model = store.acquire(Load(disk.checkpoint("a"), disk.folder / "one.vae")).result(10)
    use(store, Load(disk.checkpoint("b")))
    assert "a" in held(store)
    store.release(model)
    assert len(held(store)) == 1


def test_few_vaes_stay(disk: Disk) -> None:
    store = disk.store()
    for index in range(VAES + 3):
        path = disk.folder / f"{index}.vae"
        path.write_text("")
        use(store, Load(disk.checkpoint("a"), path))
    assert [vae.path.name for vae in store.vaes()] == [f"{index}.vae" for index in range(3, VAES + 3)]


@pytest.mark.parametrize("vae", [None, "broken.vae"])
def test_a_failure_is_told_and_forgotten(disk: Disk, vae: str | None) -> None:
    store = disk.store(most=1)
    name = "a" if vae else "broken"
    path = disk.folder / vae if vae else None
    for _ in range(2):
        with pytest.raises(DanqingError):
            store.acquire(Load(disk.checkpoint(name), path)).result(10)
    assert disk.read == (["a", vae, vae] if vae else ["broken", "broken"])
    use(store, Load(disk.checkpoint("b")))
    assert held(store) == ["b"]


def test_a_file_that_was_replaced_is_read_again(disk: Disk) -> None:
    store = disk.store()
    a = disk.checkpoint("a")
    first = use(store, Load(a))
    os.utime(a.filename, ns=(5, 5))
    second = use(store, Load(a))
    assert disk.read == ["a", "a"]
    assert first.key != second.key


def test_two_who_want_one_file_read_it_once(disk: Disk) -> None:
    store = disk.store()
    disk.gate.clear()
    futures = [store.acquire(Load(disk.checkpoint("a"))) for _ in range(3)]
    disk.gate.set()
    assert len({id(future.result(10)) for future in futures}) == 1
    assert disk.read == ["a"]
