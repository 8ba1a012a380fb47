"""Small checkpoints of SD 1's and SD 2's layout, some pictures, and a training run in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from danqing.train.folder import Training, create
from danqing.train.networks import open_networks
from danqing.train.prepare import prepare
from danqing.train.recipe import parsed
from danqing.train.results import finish
from danqing.train.trainer import Trainer

from ..library import layouts
from .test_data import picture

FIELDS = {
    **{"name": "zqx", "model": "sd1", "resolution": 64, "steps": 3, "batch_size": 1, "save_every": 0},
    **{"template": "a [name]\n[name] on grass", "learning_rate": 1e-3, "rank": 4, "trigger": "zqx"},
}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the checkpoints "sd1" and "sd2" (v-prediction), and pictures in `pictures/`."""
    data = tmp_path_factory.mktemp("train")
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name, layout, prediction in (("sd1", layouts.SD1, None), ("sd2", layouts.SD2, "v")):
        real = dataclasses.replace(layout, vocabulary=49408)
        save_file(layouts.tensors(real), folder / f"{name}.safetensors")
        folder.joinpath(f"{name}.yaml").write_text(layouts.yaml(real, prediction))
    for number in range(3):
        picture(data / "pictures" / f"{number}.png", number)
    return data


Run = Callable[..., Training]


def begin(root: Path, **fields: object) -> Training:
    """A new training of a result that nobody has."""
    begin.count += 1  # type: ignore[attr-defined]
    return create(root, parsed(FIELDS | {"data": str(root / "pictures"), "name": f"zqx{begin.count}"} | fields))  # type: ignore[attr-defined]


begin.count = 0  # type: ignore[attr-defined]


def go_on(training: Training, root: Path, until: int | None = None) -> Trainer:
    """Train in this process, to the end or until so many steps are done."""
    torch.set_num_threads(1)
    networks = open_networks(root, training.recipe(), torch.device("cpu"))
    index = prepare(training, root)
    done: list[Trainer] = []
    trainer = Trainer(training, networks, index, lambda: until is not None and bool(done) and done[0].step >= until)
    done.append(trainer)
    if trainer.run():
        finish(trainer, root, 0)
    return trainer
