"""Compiling is watched: whatever its process does, the outcome has a name and the store stays whole."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from danqing.engine.compile import CompileError, Task, run
from danqing.engine.compile_store import Store

WANTS = [
    {"architecture": "a" * 16, "variant": "plain", "height": 64, "width": 64, "model": "m"},
    {"architecture": "a" * 16, "variant": "full", "height": 64, "width": 64, "model": "m"},
]

PRELUDE = f"""
import json, os, signal, sys, time
from pathlib import Path
op, job = sys.argv[1], json.loads(sys.argv[2])
if op == "list":
    print(json.dumps({{"fingerprint": "f" * 16, "device": "d", "wants": {WANTS!r}}}))
    raise SystemExit(0)
package = Path(job["folder"], "network.pt2")
variant = job["want"]["variant"]
def answer():
    package.write_bytes(b"code of " + variant.encode())
    print("noise before it")
    print(json.dumps({{"seconds": 3.5, "gain": 1.4, "difference": 1e-6, "graphs": 0}}))
"""


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path, [tmp_path / "own"], "cpu", room=0, seconds=60)


def doing(task: Task, code: str) -> Task:
    """The task with a worker that does this in the place of compiling. What is tried is what watches it."""
    return replace(task, command=(sys.executable, "-c", PRELUDE + code))


def store_of(task: Task) -> Store:
    return Store(task.roots, "f" * 16)


def test_what_is_made_is_published_and_not_made_again(task: Task) -> None:
    seen: list[tuple[int, int, str]] = []
    outcome = run(doing(task, "answer()"), lambda *row: seen.append(row))
    assert [one.want.variant for one in outcome.made] == ["plain", "full"]
    assert [(done, total) for done, total, _ in seen] == [(0, 2), (1, 2)]
    assert store_of(task).state()["state"] == "done"
    assert store_of(task).state()["seconds"] == 7.0
    again = run(doing(task, "raise SystemExit('not to be run')"))
    assert (len(again.made), len(again.there), again.failed) == (0, 2, {})


def test_a_damaged_artefact_is_made_again_and_the_others_are_not(task: Task) -> None:
    first = run(doing(task, "answer()"))
    name = first.made[0].want.name
    (task.roots[0] / ("f" * 16) / name / "network.pt2").write_bytes(b"code of pla")
    again = run(doing(task, "answer()"))
    assert [one.want.name for one in again.made] == [name]
    assert len(again.there) == 1


@pytest.mark.parametrize(
    ("code", "reason", "detail"),
    [
        ("raise RuntimeError('g++ is not here')", "failed", "g++ is not here"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "exit code -9"),
        ("raise OSError(28, 'No space left on device')", "disk_full", "No space left on device"),
        ("print('no answer')", "failed", "no answer"),
        ("print(json.dumps({'seconds': 1, 'gain': 1, 'difference': 0, 'graphs': 0}))", "failed", "No such file"),
        ("package.write_bytes(b'c'); print(json.dumps({'gain': 1}))", "failed", "seconds"),
        ("package.write_bytes(b'c'); print(json.dumps({'seconds': 'long', 'gain': 1}))", "failed", "long"),
    ],
)
def test_a_failure_has_a_name_and_leaves_nothing(task: Task, code: str, reason: str, detail: str) -> None:
    outcome = run(doing(task, f"if variant == 'plain':\n    {code}\nelse:\n    answer()"))
    ((name, failure),) = outcome.failed.items()
    assert (failure.code, "plain" in name) == (reason, True)
    assert detail in failure.detail
    assert [one.want.variant for one in outcome.made] == ["full"]  # the others are made
    state = store_of(task).state()
    assert (state["state"], state["reason"]) == ("failed", reason)
    assert [path.name for path in store_of(task).folder.iterdir() if path.is_dir()] == [outcome.made[0].want.name]


def test_a_compiler_that_hangs_is_ended_with_its_children(task: Task, tmp_path: Path) -> None:
    code = f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
time.sleep(600)
"""
    outcome = run(replace(doing(task, code), seconds=1.5, variants=("plain",)))
    assert [failure.code for failure in outcome.failed.values()] == ["timeout"]
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_full_disk_is_seen_before_anything_is_begun(task: Task) -> None:
    outcome = run(replace(doing(task, "raise SystemExit('not to be run')"), room=2**62))
    assert {failure.code for failure in outcome.failed.values()} == {"disk_full"}


def test_everything_that_the_compilers_write_lies_in_the_folder_that_goes(task: Task) -> None:
    code = """
import tempfile
for place in (tempfile.gettempdir(), os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"]):
    assert Path(place).is_relative_to(job["folder"]), place
    Path(place, "left").write_text("behind")
answer()
"""
    outcome = run(doing(task, code))
    assert not outcome.failed
    names = sorted(path.name for path in outcome.made[0].folder.iterdir()) if outcome.made[0].folder.name else []
    assert names in ([], ["manifest.json", "network.pt2"])
    assert not list(task.roots[0].rglob("left"))


def test_who_compiles_already_is_not_disturbed(task: Task) -> None:
    with store_of(task).locked() as mine:
        assert mine
        assert run(doing(task, "answer()")).busy


def test_what_cannot_be_listed_is_an_error(task: Task) -> None:
    broken = replace(task, command=(sys.executable, "-c", "raise SystemExit('no model')"))
    with pytest.raises(CompileError, match="no model"):
        run(broken)


def test_the_real_worker_lists_the_miniature_model(task: Task) -> None:
    from danqing.engine.compile_worker import listed as answer

    listed = answer(task.job())
    sizes = {(row["height"], row["width"]) for row in listed["wants"]}
    assert sizes == {(16, 16), (24, 16), (16, 24)}
    kinds = [{(row["architecture"], row["variant"]) for row in listed["wants"]}]
    kinds += [{kind for kind in kinds[0] if (kind[1] in ("decode", "encode")) is vae} for vae in (False, True)]
    assert [{variant for _, variant in kind} for kind in kinds[1:]] == [{"plain", "full"}, {"decode", "encode"}]
    assert [len({architecture for architecture, _ in kind}) for kind in kinds] == [2, 1, 1]
    assert [row["variant"] for row in listed["wants"][:2]] == [
        "plain",
        "decode",
    ]  # what every picture needs comes first
    assert json.dumps(listed)
