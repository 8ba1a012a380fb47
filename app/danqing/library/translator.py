"""Where the translation model lies, and what to type when it does not. No torch."""

from __future__ import annotations

from pathlib import Path

from danqing.errors import DanqingError

GROUP = "translate"
FILES = ("config.json", "source.spm", "target.spm", "vocab.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def folder_of(data: Path) -> Path:
    """Of the model from Chinese to English."""
    return data / "models" / "translation" / "zh-en"


def is_there(data: Path) -> bool:
    """Whether all of its files are on disk."""
    folder = folder_of(data)
    return all((folder / name).is_file() for name in FILES) and any((folder / name).is_file() for name in WEIGHTS)


def check(data: Path) -> None:
    """
    Raises:
        DanqingError: `files_missing` names what is not there.
    """
    folder = folder_of(data)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in WEIGHTS):
        missing.append(WEIGHTS[-1])
    if missing:
        raise DanqingError("files_missing", feature="translation", files=", ".join(missing), folder=str(folder))
