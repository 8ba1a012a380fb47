"""From the last step to a file in the models' folders, and the word that it is there."""

from __future__ import annotations

import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.library.whole import replace_whole, sha256_of
from danqing.train.files import publish
from danqing.train.folder import Training, targets, write_error
from danqing.train.progress import losses
from danqing.train.recipe import TrainRequest
from danqing.train.trainer import Trainer

ENDINGS = {"lora": ".safetensors", "embedding": ".pt", "hypernetwork": ".pt", "checkpoint": ".safetensors"}

LAST = 100
"""Steps whose mean loss is told."""


def target_of(root: Path, recipe: TrainRequest, kind: str) -> Path:
    """Where the result goes."""
    return next(path for path in targets(root, recipe) if path.suffix == ENDINGS[kind])


def finish(trainer: Trainer, root: Path, peak: int) -> dict[str, Any]:
    """Write the result, publish it, write `result.json`. A kill at any moment leaves a training that does this again.

    Args:
        peak: most bytes that were in use.

    Raises:
        DanqingError: `disk_full`, `cannot_write`.
    """
    training, method, recipe = trainer.training, trainer.method, trainer.recipe
    made = training.path / "result" / target_of(root, recipe, method.kind).name
    facts = trainer.facts()
    if not made.is_file():
        method.train(False)
        try:
            with trainer.optimizing.averaged():
                method.save(made, facts)
        except OSError as error:
            raise write_error(made, error) from None
    target = _published(made, root, recipe, method.kind)
    _beside(trainer, target)
    files = [{"kind": method.kind, "path": target.relative_to(root).as_posix(), "sha256": sha256_of(target)}]
    result = {
        "files": files,
        "figures": {
            "steps": facts.steps,
            "seconds": facts.seconds,
            "pictures": facts.pictures,
            "class_pictures": facts.class_pictures,
            "loss": _last_loss(training),
            "peak_bytes": peak,
            "device": trainer.networks.device.type,
        },
        "recipe_sha256": recipe.digest(),
        "data_sha256": facts.data_sha256,
    }
    training.write_result(result)
    shutil.rmtree(made.parent, ignore_errors=True)
    return result


def _published(made: Path, root: Path, recipe: TrainRequest, kind: str) -> Path:
    """Under its name; where somebody has taken that meanwhile, under the next free one: what was learned is not lost."""
    for number in count(1):
        named = recipe if number == 1 else recipe.model_copy(update={"name": f"{recipe.name}-{number}"})
        target = target_of(root, named, kind)
        if any(other.exists() for other in targets(root, named) if other != target):
            continue
        try:
            publish(made, target)
        except DanqingError as error:
            if error.code != "train_name_taken":
                raise
        else:
            return target
    raise AssertionError("numbers do not end")


def _last_loss(training: Training) -> float | None:
    found = list(losses(training.rows()).values())[-LAST:]
    return round(sum(found) / len(found), 6) if found else None


def _beside(trainer: Trainer, target: Path) -> None:
    """What the WebUI's cards show of a network, and the YAML that a checkpoint was read with; files of others stay."""
    recipe, checkpoint = trainer.recipe, trainer.networks.model.checkpoint
    try:
        if trainer.method.kind in ("lora", "hypernetwork"):
            card = {
                "description": f"{recipe.method}, {trainer.step} steps on {checkpoint.base}",
                "sd version": "SD1" if trainer.networks.model.family == "sd1" else "SD2",
                "activation text": recipe.word,
                "preferred weight": 1,
                "notes": "",
            }
            _new(target.with_suffix(".json"), json.dumps(card, ensure_ascii=False, indent=4).encode())
        elif trainer.method.kind == "checkpoint" and checkpoint.config is not None:
            _new(target.with_suffix(".yaml"), checkpoint.config.read_bytes())
    except OSError as error:
        raise write_error(target, error) from None


def _new(path: Path, content: bytes) -> None:
    if not path.exists():
        replace_whole(path, content)
