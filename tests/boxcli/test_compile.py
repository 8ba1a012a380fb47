"""`danqing box compile` in the boot report and on the status."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from danqing.box import compile as compiling
from danqing.box import phases, status
from danqing.box.errors import BoxError
from danqing.box.places import Places
from danqing.engine.compile import Task
from danqing.errors import DanqingError

WANT = {"architecture": "a" * 16, "variant": "plain", "height": 64, "width": 64, "model": "m"}
WORKER = f"""
import json, sys
from pathlib import Path
op, job = sys.argv[1], json.loads(sys.argv[2])
if op == "list":
    print(json.dumps({{"fingerprint": "f" * 16, "device": "d", "wants": [{WANT!r}]}}))
else:
    if FAILS: raise SystemExit("no compiler")
    Path(job["folder"], "network.pt2").write_bytes(b"code")
    print(json.dumps({{"seconds": 41.6, "gain": 1.43, "difference": 0.0, "graphs": 0.0}}))
"""


@pytest.fixture
def task(tmp_path: Path) -> tuple[Places, Task]:
    places = Places(tmp_path / "root")
    task = compiling.task_of(places, tmp_path / "data")
    assert task.device == "cpu"  # there is no NVIDIA device below this root
    assert task.roots[0] == tmp_path / "data/cache/compiled"
    return places, replace(task, room=0)


def with_worker(task: Task, *, fails: bool) -> Task:
    return replace(task, command=(sys.executable, "-c", f"FAILS = {fails}\n{WORKER}"))


def test_the_boot_report_says_how_long_it_took_and_what_it_gains(task: tuple[Places, Task]) -> None:
    places, todo = task
    outcome = compiling.run(places, with_worker(todo, fails=False))
    assert len(outcome.made) == 1
    (row,) = status.report(places.report)
    assert (row["name"], row["state"]) == ("compile", "done")
    assert "1 networks compiled in 42 s" in row["note"]
    assert "1.43 times as fast" in row["note"]
    again = compiling.run(places, with_worker(todo, fails=True))  # what is there is not made again
    assert (len(again.made), len(again.there)) == (0, 1)


def test_a_failure_is_one_line_and_what_to_do(task: tuple[Places, Task]) -> None:
    places, todo = task
    with pytest.raises(BoxError, match="no compiler") as raised:
        compiling.run(places, with_worker(todo, fails=True))
    assert "danqing box compile" in raised.value.text("en")
    (row,) = phases.read(places)["phases"]
    assert row["state"] == "failed"
    assert "no compiler" in row["note"]


@pytest.mark.parametrize("sizes", ["axb", "512", "512x", "0x512", "512x512;64x64", "512x512,", "9" * 9 + "x1", "AUTO"])
def test_sizes_that_no_picture_has_are_named(tmp_path: Path, sizes: str) -> None:
    with pytest.raises(DanqingError, match="compile_sizes") as raised:
        compiling.task_of(Places(tmp_path), tmp_path, sizes)
    assert "既不是 auto" in raised.value.text("zh")
    assert compiling.task_of(Places(tmp_path), tmp_path, "512x512, 64X96").sizes == "512x512, 64X96"


def test_settings_of_another_device_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANQING_ENGINE_DEVICE", "cuda:1")
    monkeypatch.setenv("DANQING_COMPILE_SIZES", "512x512")
    monkeypatch.setenv("DANQING_COMPILE_MINUTES", "2")
    todo = compiling.task_of(Places(tmp_path), tmp_path)
    assert (todo.device, todo.sizes, todo.seconds) == ("cuda:1", "512x512", 120)
    assert compiling.task_of(Places(tmp_path), tmp_path, "768x512").sizes == "768x512"


@pytest.mark.parametrize(
    ("told", "en", "zh"),
    [
        ({"state": "eager"}, "networks: not compiled", "网络：未编译"),
        ({"state": "compiling"}, "networks: compiling", "网络：正在编译"),
        ({"state": "compiled", "gain": 1.43}, "networks: compiled, 1.43 times as fast", "网络：已编译，速度为 1.43 倍"),
        (
            {"state": "compiled", "gain": 1.43, "vae_gain": 1.2},
            "networks: compiled, 1.43 times as fast, VAE 1.20 times as fast",
            "网络：已编译，速度为 1.43 倍，VAE 速度为 1.20 倍",
        ),
        (
            {"state": "eager", "en": "compiling was killed", "zh": "编译进程被终止"},
            "not compiled: compiling was killed",
            "终止",
        ),
    ],
)
def test_the_status_says_whether_networks_run_compiled(told: dict[str, object], en: str, zh: str) -> None:
    found = {"phases": [], "ready": True, "answers": True, "acceleration": told}
    lines = list(status.lines(json.loads(json.dumps(found))))
    assert en in lines[0][0]
    assert zh in lines[0][1]


def test_compiling_waits_for_the_first_picture(task: tuple[Places, Task]) -> None:
    places, _ = task
    phases.write(places, [], ready=True, first_picture=12.5)
    compiling.wait_for_first_picture(places, 3600)
    compiling.wait_for_first_picture(Places(places.root / "other"), 0)
