"""`python -m danqing.train.worker FOLDER --data ROOT`: runs a training, or goes on with it, to its end.

Exit 0: done (`result.json`), or paused by SIGTERM. Exit 1: failed (`failed.json`).
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.train.folder import Training, targets
from danqing.train.prepare import missing, prepare
from danqing.train.recipe import check_optimizer
from danqing.train.settings import ROWS, Limits


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m danqing.train.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="the training's folder")
    parser.add_argument("--data", type=Path, required=True, help="the data root")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args(arguments)
    training = Training(options.folder.resolve())
    try:
        with training.held():
            return _guarded(training, options.data.resolve(), options.device)
    except DanqingError as error:
        print(error, file=sys.stderr)
        return 1


def _guarded(training: Training, root: Path, device: str) -> int:
    """Whatever goes wrong is written down under its name."""
    try:
        training.forget_failure()
        _Work(training, root, device).run()
    except DanqingError as error:
        return _failed(training, error)
    except Exception as error:  # noqa: BLE001 - a person is told, whatever it was
        traceback.print_exc()
        return _failed(training, DanqingError("internal", reference=f"{type(error).__name__}: {error}"[:300]))
    return 0


def _failed(training: Training, error: DanqingError) -> int:
    print(error, file=sys.stderr)
    try:
        training.write_failure(error)
    except DanqingError as second:  # no room even for that
        print(second, file=sys.stderr)
    return 1


class _Work:
    def __init__(self, training: Training, root: Path, device: str) -> None:
        self._training, self._root, self._device = training, root, device
        self._stop = False
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, _signal: int, _frame: Any) -> None:
        self._stop = True

    def run(self) -> None:
        from danqing.settings import Settings

        training = self._training
        if training.result() is not None:
            return
        recipe = training.recipe()
        check_optimizer(recipe)
        settings = Settings.load_known(ROWS, self._root)
        index = prepare(training, self._root, Limits.of(settings))
        if not all((training.pictures / row.file).is_file() for row in index.pictures):
            raise missing(training)
        self._train(index)

    def _train(self, index: Any) -> None:
        import torch

        from danqing.engine.build import choose_device
        from danqing.train.networks import open_networks
        from danqing.train.results import finish
        from danqing.train.trainer import StoppedError, Trainer

        training, recipe = self._training, self._training.recipe()
        self._check_target()
        networks = open_networks(self._root, recipe, choose_device(self._device))
        try:
            trainer = Trainer(training, networks, index, lambda: self._stop)
        except StoppedError:
            return
        except torch.OutOfMemoryError:  # while it drew its own pictures
            raise DanqingError("train_memory", step=0) from None
        if trainer.run():
            finish(trainer, self._root, _peak(networks.device.type))

    def _check_target(self) -> None:
        """Before hours are spent: is there something of this name? Where they are spent, the result gets the next free one."""
        if self._training.path.joinpath("result").is_dir() or self._training.checkpoint.is_file():
            return
        for target in targets(self._root, self._training.recipe()):
            if target.exists():
                raise DanqingError("train_name_taken", path=target.relative_to(self._root).as_posix())


def _peak(device: str) -> int:
    """Most bytes in use: of the GPU, or of this process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
