"""A training's worker that computes nothing: it keeps the folder as the real one does.

`python -m tests.jobs.fake_worker FOLDER --data ROOT --device NAME`. The training's name says what happens, half way through:

    die         kill -9 of itself, every time
    die-once    the same, the first time
    fail        it ends with the error `train_diverged`, the first time
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.library.whole import replace_whole
from danqing.train.folder import Training
from danqing.train.progress import Recorder

STEP_SECONDS = 0.01


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--device", required=True)
    training = Training(parser.parse_args().folder)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    with training.held():
        training.forget_failure()
        return work(training, stop)


def work(training: Training, stop: list[int]) -> int:
    recipe, record = training.recipe(), Recorder(training.progress)
    saved = training.path / "state" / "step"
    first = int(saved.read_text()) if saved.is_file() else 0
    for step in range(first + 1, recipe.steps + 1):
        time.sleep(STEP_SECONDS)
        row: Any = {"step": step, "steps": recipe.steps, "loss": 1 / step, "rate": 0.1, "seconds": step / 100}
        record.append(row)
        replace_whole(saved, str(step).encode())
        with (training.path / "busy.log").open("a") as file:
            file.write("1" if training.busy.exists() else "0")
        if step == recipe.steps // 2 or recipe.name == "die":
            misbehave(training, recipe.name)
        if stop:
            record.append({"step": step, "steps": recipe.steps, "event": "paused"})
            return 0
    training.write_result({"files": [], "figures": {}})
    return 0


def misbehave(training: Training, name: str) -> None:
    once = training.path / "misbehaved"
    if name == "die" or (name == "die-once" and not once.exists()):
        once.touch()
        if name == "die":  # without progress: its state is lost, too
            (training.path / "state" / "step").unlink()
            training.progress.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "fail" and not once.exists():
        once.touch()
        training.write_failure(DanqingError("train_diverged", step=1))
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
