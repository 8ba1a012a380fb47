"""A model on disk as a table of tensors: one file, or a folder in diffusers' layout. No torch; nothing but headers is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.library.header import Header, read_header
from danqing.library.pickles import read_pickle_header

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
FILES = (".safetensors", *PICKLED)

FOLDER_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""What is read of a folder in diffusers' layout; a safety checker, an image encoder and the like are not."""

CONFIG_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a model. `prefix` stands before its tensors' names in the model."""

    path: Path
    header: Header
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a model holds.

    `configs`: a folder's `config.json` of each part, {} for a single file.
    """

    pieces: tuple[Piece, ...]
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape, of all files."""
        return {
            piece.prefix + name: entry.shape for piece in self.pieces for name, entry in piece.header.tensors.items()
        }

    @property
    def metadata(self) -> dict[str, str]:
        """The free strings of the first file."""
        return self.pieces[0].header.metadata if self.pieces else {}

    @property
    def bytes(self) -> int:
        """Of all files, on disk."""
        return sum(piece.path.stat().st_size for piece in self.pieces)


def is_folder_model(path: Path) -> bool:
    """Whether `path` is a model in diffusers' layout."""
    return (path / "model_index.json").is_file()


def open_file_header(path: Path) -> Header:
    """The header of one file, by what it begins with and not by its name.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DanqingError("model_broken", name=path.name, reason=error.strerror or str(error)) from None
    pickled = start[:2] == b"PK" or (start[:1] == b"\x80" and start[8:9] != b"{")
    if pickled or (path.suffix.lower() in PICKLED and start[8:9] != b"{"):
        return read_pickle_header(path)
    return read_header(path)


def open_weights(path: Path) -> Weights:
    """The tensors of a checkpoint, a VAE or a folder.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    if not path.is_dir():
        return Weights((Piece(path, open_file_header(path)),))
    index = _json(path / "model_index.json", path.name)
    pieces: list[Piece] = []
    configs: dict[str, dict[str, Any]] = {}
    for part in FOLDER_PARTS:
        folder = path / part
        if part not in index or not folder.is_dir():
            continue
        configs[part] = _json(folder / "config.json", path.name)
        pieces.extend(Piece(file, open_file_header(file), f"{part}.") for file in part_files(folder, path.name))
    if (scheduler := path / "scheduler" / "scheduler_config.json").is_file():
        configs["scheduler"] = _json(scheduler, path.name)
    if not pieces:
        raise DanqingError("model_broken", name=path.name, reason="the folder holds no weights")
    return Weights(tuple(pieces), configs)


def part_files(folder: Path, name: str) -> list[Path]:
    """The files of one part of a folder: safetensors before pickles, the fullest precision first, shards in order."""
    for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
        for variant in ("", ".fp16", ".non_ema", ".bf16"):
            for ending in ("safetensors", "bin"):
                whole = folder / f"{stem}{variant}.{ending}"
                if whole.is_file():
                    return [whole]
                listing = folder / f"{stem}.{ending}.index{variant}.json"
                if listing.is_file():
                    return list(_shards(listing, name))
    raise DanqingError("model_broken", name=name, reason=f"the folder {folder.name} holds no weights")


def _shards(listing: Path, name: str) -> Iterator[Path]:
    table = _json(listing, name).get("weight_map")
    for shard in sorted({str(value) for value in table.values()} if isinstance(table, dict) else ()):
        path = listing.parent / shard
        if path.parent != listing.parent or not path.is_file():
            raise DanqingError("model_broken", name=name, reason=f"the shard {shard[:80]} is missing")
        yield path


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_LIMIT:
            raise ValueError("too long")
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{path.name} cannot be read ({type(error).__name__})"
        raise DanqingError("model_broken", name=name, reason=reason) from None
    if not isinstance(found, dict):
        raise DanqingError("model_broken", name=name, reason=f"{path.name} is not a table")
    return found
