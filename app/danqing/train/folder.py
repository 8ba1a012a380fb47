"""A training on disk: one folder that holds everything about it. No torch.

`DATA/training/ID/`: `recipe.json`, `pictures/` (prepared copies), `class/` (pictures that the model drew itself), `state/`,
`samples/`, `progress.jsonl`, and at the end `result.json` or `failed.json`.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from danqing.errors import DanqingError
from danqing.library.whole import replace_whole
from danqing.train.progress import Row, read
from danqing.train.recipe import TrainRequest, parsed

State = Literal["queued", "running", "paused", "done", "failed"]

FULL = (28, 122, 27)
"""errno of a full disk, a full quota, a file too large."""

ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Training:
    """The training in `path`."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    @property
    def class_pictures(self) -> Path:
        return self.path / "class"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoint(self) -> Path:
        """Where the training goes on from after a pause or a kill."""
        return self.path / "state" / "state.pt"

    @property
    def progress(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def busy(self) -> Path:
        """While this file is there, somebody draws on the device."""
        return self.path / "busy"

    def recipe(self) -> TrainRequest:
        """
        Raises:
            DanqingError: `train_unknown` where there is none, `invalid_field` where it does not fit this version.
        """
        found = _read_json(self.path / "recipe.json")
        if found is None:
            raise DanqingError("train_unknown", path=str(self.path))
        return parsed(found)

    def rows(self, since: int = 0) -> list[Row]:
        """What happened, from row number `since` on."""
        return read(self.progress, since)

    def result(self) -> dict[str, Any] | None:
        """`files` (kind, path below the data root, sha256), `figures`, `recipe_sha256`, `data_sha256`; None before the end."""
        return _read_json(self.path / "result.json")

    def failure(self) -> DanqingError | None:
        """Why it failed."""
        found = _read_json(self.path / "failed.json")
        if found is None:
            return None
        return DanqingError.from_dict({"code": found.get("code"), "params": found.get("values")})

    def state(self) -> State:
        """A training that a kill has cut off is "queued": it wants to go on."""
        if self.is_running():
            return "running"
        if self.result() is not None:
            return "done"
        if self.failure() is not None:
            return "failed"
        rows = self.rows()
        return "paused" if rows and rows[-1].get("event") == "paused" else "queued"

    def is_running(self) -> bool:
        """Whether a worker is at it, on this machine."""
        try:
            with self.path.joinpath("worker.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the context this process is the training's worker; the kernel lets go when it dies.

        Raises:
            DanqingError: `train_running`, when another one is.
        """
        with self.path.joinpath("worker.lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DanqingError("train_running", path=str(self.path)) from None
            yield

    def write_result(self, result: dict[str, Any]) -> None:
        """Say that it is done."""
        _write_json(self.path / "result.json", result)
        self.path.joinpath("failed.json").unlink(missing_ok=True)

    def write_failure(self, error: DanqingError) -> None:
        """Say why it ended."""
        _write_json(self.path / "failed.json", {"code": error.code, "values": error.params})

    def forget_failure(self) -> None:
        """It is tried again."""
        self.path.joinpath("failed.json").unlink(missing_ok=True)


def create(root: Path, recipe: TrainRequest) -> Training:
    """A new training below the data root `root`.

    Raises:
        DanqingError: `train_name_taken`, when the result's file is there already; `disk_full`, `cannot_write`.
    """
    for target in targets(root, recipe):
        if target.exists():
            raise DanqingError("train_name_taken", path=target.relative_to(root).as_posix())
    path = root / "training" / secrets.token_hex(8)
    try:
        path.mkdir(parents=True)
        _write_json(path / "recipe.json", recipe.model_dump(mode="json"))
    except OSError as error:
        raise write_error(path, error) from None
    return Training(path)


def find(root: Path, name: str) -> Training:
    """The training `name` (its id) below the data root.

    Raises:
        DanqingError: `train_unknown`.
    """
    path = root / "training" / name
    if not ID.fullmatch(name) or not (path / "recipe.json").is_file():
        raise DanqingError("train_unknown", path=f"training/{name[:100]}")
    return Training(path)


def targets(root: Path, recipe: TrainRequest) -> tuple[Path, ...]:
    """The files that a training must not find: its result, and others that would go by the same name."""
    models = root / "models"
    if recipe.method == "textual_inversion":
        return tuple(root / "embeddings" / f"{recipe.name}{end}" for end in (".pt", ".safetensors", ".bin", ".png"))
    if recipe.method == "hypernetwork":
        return (models / "hypernetworks" / f"{recipe.name}.pt",)
    folder = models / ("Stable-diffusion" if recipe.method == "dreambooth" else "Lora")
    return tuple(folder / f"{recipe.name}{end}" for end in (".safetensors", ".ckpt"))


def write_error(path: Path, error: OSError) -> DanqingError:
    """What a failed write is called."""
    if error.errno in FULL:
        return DanqingError("disk_full", free_mb=0)
    return DanqingError("cannot_write", path=str(path), reason=error.strerror or str(error))


def _write_json(path: Path, table: dict[str, Any]) -> None:
    try:
        replace_whole(path, json.dumps(table, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise write_error(path, error) from None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
