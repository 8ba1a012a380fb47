"""The worker as a process: killed, resumed, told to pause, out of room; and what it says of all that."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline

from danqing import torchvision_shim as torchvision_shim  # before diffusers
from danqing.errors import DanqingError
from danqing.train import files, trainer, worker
from danqing.train.folder import Training
from danqing.train.progress import Recorder, losses, read

from .conftest import begin, go_on

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(training: Training, root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "danqing.train.worker", str(training.path), "--data", str(root), "--device", "cpu"]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)


def wait_for(training: Training, process: subprocess.Popen[bytes], steps: int) -> None:
    while len(losses(training.rows())) < steps:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.005)


def test_a_killed_and_paused_training_ends_with_the_same_curve(root: Path) -> None:
    """kill -9, then SIGTERM, while it is held back so that it cannot run away from us. Losses agree to a millionth."""
    fields = {"method": "lora", "steps": 16, "save_every": 2, "ema": 0.9, "share": 0.1, "schedule": "linear"}
    through = begin(root, **fields)
    go_on(through, root)
    killed = begin(root, **fields)
    killed.busy.touch()
    process = start(killed, root)
    wait_for(killed, process, 3)
    assert killed.state() == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed.state() == "queued"
    assert killed.checkpoint.is_file()
    with killed.progress.open("ab") as file:
        file.write(b'{"step":9,"steps":12,"lo')  # a line that the kill tore
    begun = len(killed.rows())
    process = start(killed, root)
    while len(killed.rows()) < begun + 2:
        assert process.poll() is None
        time.sleep(0.005)
    process.terminate()
    assert process.wait() == 0
    assert killed.state() == "paused"
    resumed, paused = killed.rows()[begun], killed.rows()[-1]
    assert (resumed.get("event"), paused.get("event")) == ("resumed", "paused")
    assert resumed["step"] % 2 == 0
    assert 0 < resumed["step"] < paused["step"] < 16
    killed.busy.unlink()
    go_on(killed, root)
    assert losses(killed.rows()) == pytest.approx(losses(through.rows()), abs=1e-6)
    assert list(losses(killed.rows())) == list(range(1, 17))


def test_a_failure_is_written_down(root: Path, tmp_path: Path) -> None:
    """No pictures, said by the process that a door starts."""
    training = begin(root, method="lora", data=str(tmp_path))
    process = start(training, root)
    assert process.wait() == 1
    failure = training.failure()
    assert failure is not None
    assert failure.code == "train_no_pictures"
    assert json.loads((training.path / "failed.json").read_text("utf-8"))["code"] == "train_no_pictures"
    assert training.state() == "failed"


def test_a_full_disk_in_the_middle_of_saving_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses to let a file grow: the state saved before stays, and the training goes on from it."""
    fields = {"method": "lora", "steps": 4, "save_every": 2}
    training = begin(root, **fields)
    go_on(training, root, until=2)
    saved = training.checkpoint.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(saved) // 2, hard))
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(DanqingError) as caught:
            go_on(training, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert caught.value.code == "disk_full"
    assert training.checkpoint.read_bytes() == saved
    assert [path.name for path in training.checkpoint.parent.iterdir()] == ["state.pt"]
    through = begin(root, **fields)
    go_on(through, root)
    go_on(training, root)
    assert losses(training.rows()) == losses(through.rows())
    monkeypatch.setattr(files, "ROOM", 2**60)
    with pytest.raises(DanqingError) as caught:
        files.save_torch(training.path / "x.pt", {})
    assert caught.value.code == "disk_full"


def test_a_result_meets_a_file_of_its_name(root: Path, tmp_path: Path) -> None:
    """Its own from before a kill is taken as it is; another's is left alone."""
    made, target = tmp_path / "made", tmp_path / "there" / "x.pt"
    made.write_bytes(b"ours")
    files.publish(made, target)
    files.publish(made, target)
    target.unlink()
    target.write_bytes(b"theirs")
    with pytest.raises(DanqingError) as caught:
        files.publish(made, target)
    assert caught.value.code == "train_name_taken"
    assert target.read_bytes() == b"theirs"


def test_a_name_that_is_taken_meanwhile_costs_nothing(root: Path) -> None:
    training = begin(root, method="lora", save_every=1)
    go_on(training, root, until=1)
    theirs = root / "models" / "Lora" / f"{training.recipe().name}.safetensors"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_bytes(b"theirs")
    before = signal.getsignal(signal.SIGTERM)
    worker._Work(training, root, "cpu")._check_target()
    signal.signal(signal.SIGTERM, before)
    go_on(training, root)
    result = training.result()
    assert result is not None
    assert result["files"][0]["path"] == f"models/Lora/{theirs.stem}-2.safetensors"
    assert theirs.read_bytes() == b"theirs"
    training.path.joinpath("result.json").unlink()  # killed before the word was written: the same file again
    go_on(training, root)
    again = training.result()
    assert again is not None
    assert again["files"] == result["files"]


def test_samples_and_saves_are_told(root: Path) -> None:
    fields = {
        "sample_every": 1,
        "sample_prompts": ("a [name]", "grass"),
        "sample_steps": 1,
        "save_every": 1,
        "steps": 2,
    }
    training = begin(root, method="hypernetwork", **fields)
    go_on(training, root)
    silent = begin(root, method="lora", **(fields | {"sample_prompts": ()}))
    go_on(silent, root)
    assert sorted(path.name for path in silent.samples.iterdir()) == ["000001-0.png", "000002-0.png"]
    told = [row for row in training.rows() if "event" in row]
    assert [row["event"] for row in told] == ["sample", "saved", "sample"]
    assert told[0]["files"] == ["samples/000001-0.png", "samples/000001-1.png"]
    assert all((training.path / name).is_file() for row in told for name in row.get("files", ()))


@pytest.mark.parametrize(
    "drawn", [{"sample_every": 1, "sample_prompts": ("a", "b")}, {"class_prompt": "a", "class_pictures": 5}]
)
def test_pictures_that_a_training_draws_give_way_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, drawn: dict[str, object]
) -> None:
    """Each look at this clock takes a second: the training rests after its step, and after what it has drawn."""

    def rests(fields: dict[str, object]) -> int:
        seconds, slept = itertools.count(), list[float]()
        clock = SimpleNamespace(monotonic=lambda: float(next(seconds)), sleep=slept.append)
        monkeypatch.setattr(trainer, "time", clock)
        training = begin(root, method="lora", steps=1, share=0.1, sample_steps=1, **fields)
        training.busy.touch()
        go_on(training, root)
        return len(slept)

    assert rests(drawn) > 2 * rests({}) > 0


def test_no_memory_for_a_sample_has_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StableDiffusionPipeline, "__call__", full)
    with pytest.raises(DanqingError) as caught:
        go_on(begin(root, method="lora", sample_every=1, sample_prompts=("a",)), root)
    assert caught.value.code == "train_memory"


def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    path.write_bytes(b'{"step":1,"steps":2}\n{"step":2')
    assert len(read(path)) == 1
    Recorder(path).append({"step": 2, "steps": 2, "loss": 0.25})
    assert [row["step"] for row in read(path)] == [1, 2]
