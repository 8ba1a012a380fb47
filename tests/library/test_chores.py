"""Long works: asked for as files, done by a process of its own, ended, begun again after a kill."""

from __future__ import annotations

import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from danqing.errors import DanqingError
from danqing.library import chore, chores, fetch
from danqing.library import manifest as manifests
from danqing.library.manifest import Manifest
from tests.library.test_merge import small

MERGE = {
    **{"method": "weighted sum", "c": "", "multiplier": 0.5, "precision": "keep", "vae": "", "discard": ""},
    **{"config": "any", "copy_metadata": True, "record": True, "name": "mixed"},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("one", "two")):
        save_file(small(seed), folder / f"{name}.safetensors")
    return tmp_path


def merging(data: Path, **changes: Any) -> chores.Chore:
    return chores.add(data, "merge", "mixed", {**MERGE, "a": "one", "b": "two", **changes}, "ann")


def test_a_merge_is_done_by_a_process_of_its_own(data: Path) -> None:
    asked = merging(data)
    assert (asked.state, asked.owner) == ("waiting", "ann")
    assert chores.start_runner(data).wait(120) == 0
    done = chores.find(data, asked.id)
    assert (done.state, done.progress, done.result) == ("done", 1.0, "mixed.safetensors")
    mixed = load_file(data / "models/Stable-diffusion/mixed.safetensors")
    name = next(iter(small(0)))
    assert (mixed[name].float() - (small(0)[name].float() + small(1)[name].float()) / 2).abs().max() < 1e-3


def test_what_cannot_be_done_says_why_and_the_next_is_done(data: Path) -> None:
    gone, taken, good = merging(data, a="nothing"), merging(data, name="one"), merging(data)
    chore.run(data)
    found = {one.id: one for one in chores.all_of(data)}
    assert found[gone.id].error["code"] == "unknown_model"
    assert found[taken.id].error["code"] == "file_exists"
    assert found[good.id].state == "done"


def test_a_cancelled_work_leaves_nothing(data: Path) -> None:
    asked = merging(data)
    chores.cancel(data, asked.id)
    chore.run(data)
    assert chores.find(data, asked.id).state == "cancelled"
    assert not (data / "models/Stable-diffusion/mixed.safetensors").exists()
    chores.cancel(data, asked.id)
    for wrong in ("../../etc", "1", ""):
        with pytest.raises(DanqingError) as caught:
            chores.cancel(data, wrong)
        assert caught.value.code == "unknown_chore"


def test_a_work_left_in_the_middle_is_begun_again(data: Path) -> None:
    asked = merging(data)
    folder = chores.folder_of(data) / asked.id
    (folder / "spec.json").rename(folder / "taken.json")
    (folder / "state.json").write_text(json.dumps({"state": "running", "progress": 0.4}))
    assert chores.find(data, asked.id).progress == 0.4
    chore.run(data)
    assert chores.find(data, asked.id).state == "done"


def test_works_of_one_millisecond_keep_their_order(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores.time, "time_ns", lambda: 1_700_000_000_123_456_789)
    asked = [chores.add(data, "fetch", str(n), {"names": []}).id for n in range(8)]
    assert [one.id for one in reversed(chores.all_of(data))] == asked


def test_old_works_are_forgotten_and_too_many_refused(data: Path) -> None:
    for _ in range(chores.KEPT + 3):
        asked = merging(data)
        chores.write(chores.folder_of(data) / asked.id / "state.json", {"state": "done"})
    merging(data)
    assert len(chores.all_of(data)) == chores.KEPT + 1
    for _ in range(chores.MOST_WAITING - 1):
        merging(data)
    with pytest.raises(DanqingError) as caught:
        merging(data)
    assert caught.value.code == "queue_full"


def test_weights_are_fetched_with_progress(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = tmp_path / "hub" / "owner" / "name" / "resolve" / "main"
    served.mkdir(parents=True)
    (served / "x.pth").write_bytes(b"x" * 300_000)
    row = {
        **{"name": "x", "kind": "upscaler", "file": "models/ESRGAN/x.pth", "bytes": 300_000, "license": "MIT"},
        "sources": [{"type": "hub", "repo": "owner/name", "path": "x.pth"}],
    }
    listed = Manifest.model_validate({"weights": [row]})
    monkeypatch.setattr(manifests, "read_manifest", lambda: listed)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *all_: Quiet(*all_, directory=str(tmp_path / "hub")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(fetch, "RESERVE", 0)
    good = chores.add(data, "fetch", "x", {"names": ["x"], "hub": hub})
    bad = chores.add(data, "fetch", "x", {"names": ["x"], "hub": f"{hub}/no"})
    chore.run(data)
    server.shutdown()
    assert chores.find(data, good.id).state == "done"
    assert (data / "models/ESRGAN/x.pth").stat().st_size == 300_000
    assert chores.find(data, bad.id).state == "done", "what is there is not fetched again"
    assert [row["there"] for row in chores.fetchable(data)] == [True]
