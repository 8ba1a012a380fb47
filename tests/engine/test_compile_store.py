"""Compiled code on disk: whole or absent, whatever happens to whoever writes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from danqing.engine.compile_store import LOCK, MANIFEST, PACKAGE, Artefact, Store, Want

WANT = Want("a" * 16, "plain", 64, 64)


def published(store: Store, want: Want = WANT, content: bytes = b"code") -> Artefact:
    with store.making(want) as half:
        (half / PACKAGE).write_bytes(content)
        return store.publish(half, want, seconds=12.5, gain=1.3, difference=1e-6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store([tmp_path / "own"], "f" * 16)


def test_what_is_published_is_found_with_its_figures(store: Store) -> None:
    assert store.checked(WANT) is None
    published(store)
    found = store.checked(WANT)
    assert found is not None
    assert (found.want, found.seconds, found.gain, found.difference) == (WANT, 12.5, 1.3, 1e-6)
    assert found.package.read_bytes() == b"code"
    assert sorted(path.name for path in store.folder.iterdir()) == [WANT.name]
    assert store.wants("a" * 16) == [WANT]
    assert store.wants("b" * 16) == []


def test_publishing_again_replaces_whole(store: Store) -> None:
    published(store, content=b"old")
    published(store, content=b"new, and longer")
    found = store.checked(WANT)
    assert found is not None
    assert found.package.read_bytes() == b"new, and longer"
    assert not store.told


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / PACKAGE).write_bytes(b"cod"), "cut off"),
        (lambda folder: (folder / PACKAGE).write_bytes(b"coda"), "damaged"),
        (lambda folder: (folder / PACKAGE).unlink(), "cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text('{"want": '), "manifest cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "manifest cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("{}"), "manifest cannot be read"),
    ],
)
def test_what_is_damaged_is_told_once_and_made_again(store: Store, harm: object, reason: str) -> None:
    artefact = published(store)
    harm(store.folder / WANT.name)  # type: ignore[operator]
    assert artefact
    for _ in range(3):
        assert store.checked(WANT) is None
    assert len(store.told) == 1
    assert reason in store.told[0]
    published(store, content=b"again")
    assert store.checked(WANT) is not None


def test_what_is_another_devices_is_not_taken(store: Store, tmp_path: Path) -> None:
    published(store)
    assert Store([tmp_path / "own"], "e" * 16).checked(WANT) is None
    # Nor one that somebody copied into this device's folder.
    other = Store([tmp_path / "own"], "e" * 16)
    other.folder.mkdir()
    (store.folder / WANT.name).rename(other.folder / WANT.name)
    assert other.checked(WANT) is None
    assert "something else" in other.told[0]


def test_a_manifest_of_another_format_is_not_taken(store: Store) -> None:
    published(store)
    path = store.folder / WANT.name / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    assert store.checked(WANT) is None


def test_what_came_with_the_image_is_taken_where_nothing_else_is(store: Store, tmp_path: Path) -> None:
    published(Store([tmp_path / "baked"], "f" * 16), content=b"baked")
    both = Store([tmp_path / "own", tmp_path / "baked"], "f" * 16)
    found = both.checked(WANT)
    assert found is not None
    assert found.package.read_bytes() == b"baked"
    published(both, content=b"own")
    found = both.checked(WANT)
    assert found is not None
    assert found.package.read_bytes() == b"own"
    (both.folder / WANT.name / PACKAGE).write_bytes(b"")
    found = both.checked(WANT)
    assert found is not None
    assert found.package.read_bytes() == b"baked"


HALF_WAY = """
import os, signal, sys
from pathlib import Path
from danqing.engine.compile_store import PACKAGE, Store, Want
store = Store([Path(sys.argv[1])], "f" * 16)
want = Want("a" * 16, "plain", 64, 64)
with store.locked() as mine, store.making(want) as half:
    store.tell("compiling", name=want.name)
    (half / PACKAGE).write_bytes(b"co")
    print(mine, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_compiler_leaves_nothing_that_is_taken(store: Store, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HALF_WAY, str(tmp_path / "own")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (-signal.SIGKILL, "True")
    assert store.checked(WANT) is None
    assert store.wants("a" * 16) == []
    assert store.state() | {"time": 0} == {
        "state": "failed",
        "reason": "killed",
        "time": 0,
        "name": WANT.name,
    }
    with store.locked() as mine:  # its lock died with it
        assert mine
        store.clean()
        assert [path.name for path in store.folder.iterdir() if path.is_dir()] == []


def test_one_compiles_at_a_time(store: Store) -> None:
    with store.locked() as first:
        assert first
        store.tell("compiling")
        assert store.state()["state"] == "compiling"  # somebody holds the lock
        with store.locked() as second:
            assert not second
    store.tell("done")
    assert store.state()["state"] == "done"
    assert (store.folder / LOCK).exists()


def test_a_state_that_cannot_be_written_stops_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("a file in the folder's place")
    store.tell("done")
    assert store.state() == {"state": "", "reason": ""}
    assert os.path.isfile(tmp_path / "own")
