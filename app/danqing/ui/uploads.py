"""Models that come through the page: piece by piece into the cache, then checked, then moved into their folder. Blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from danqing.api.tokens import ADMIN
from danqing.errors import DanqingError
from danqing.gallery import files
from danqing.library.embedding_files import read_embedding
from danqing.library.weights import open_file_header

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "checkpoint": ("models/Stable-diffusion", (".safetensors", ".ckpt")),
    "vae": ("models/VAE", (".safetensors", ".ckpt", ".pt")),
    "lora": ("models/Lora", (".safetensors", ".pt", ".ckpt")),
    "embedding": ("embeddings", (".safetensors", ".pt", ".bin", ".png", ".webp")),
    "hypernet": ("models/hypernetworks", (".pt",)),
    "control": ("models/ControlNet", (".safetensors", ".pth", ".pt", ".ckpt", ".bin")),
    "upscaler": ("models/ESRGAN", (".pth", ".pt", ".safetensors")),
}
"""Kind → folder below the data root, and endings that are looked for there."""

LONGEST = 200
"""Characters of a file's name."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file as a request names it. `offset`: bytes before it; `last`: it is the end.

    `allowed`: models are everybody's, so only who looks after the machine may add some.
    """

    allowed: bool
    owner: str
    kind: str
    name: str
    offset: str
    last: bool


def take(data: Path, piece: Piece, content: bytes) -> int:
    """Keep a piece; with the last one the file is checked as it will be read, and put into its folder.

    Returns:
        bytes that are there so far.

    Raises:
        DanqingError: `invalid_field`, `file_exists`, `disk_full`; `model_broken` and `model_unsafe` of the check.
    """
    target = _target(data, piece)
    part = data / "cache" / "uploads" / hashlib.sha256(f"{piece.owner}/{piece.kind}/{piece.name}".encode()).hexdigest()
    part = part.with_suffix(target.suffix.lower())
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb" if piece.offset == "0" else "ab") as file:
            if str(file.tell()) != piece.offset:
                raise DanqingError("invalid_field", field="offset", reason=str(file.tell()))
            file.write(content)
            size = file.tell()
    except OSError as error:
        if files.is_full(error):
            part.unlink(missing_ok=True)
            raise DanqingError("disk_full", free_mb=0) from None
        raise
    if piece.last:
        _place(part, target, piece)
    return size


def _target(data: Path, piece: Piece) -> Path:
    """
    Raises:
        DanqingError: `not_allowed`; `invalid_field` for a kind that is none, and a name that is no file's.
    """
    if not piece.allowed:
        raise DanqingError("not_allowed", scope=ADMIN)
    if piece.kind not in KINDS:
        raise DanqingError("invalid_field", field="kind", reason="one of " + ", ".join(KINDS))
    folder, endings = KINDS[piece.kind]
    plain = PurePosixPath(piece.name).name == piece.name and not piece.name.startswith(".") and "\\" not in piece.name
    if not plain or not piece.name.isprintable() or not 0 < len(piece.name) <= LONGEST:
        raise DanqingError("invalid_field", field="name", reason=piece.name[:60])
    if not piece.name.lower().endswith(endings):
        raise DanqingError("invalid_field", field="name", reason="one of " + ", ".join(endings))
    target = data / folder / piece.name
    if target.exists():
        raise DanqingError("file_exists", path=piece.name)
    return target


def _place(part: Path, target: Path, piece: Piece) -> None:
    """Into its folder, when it is a model and nothing else; what fails the check is removed."""
    try:
        if piece.kind == "embedding":
            if read_embedding(part) is None:
                raise DanqingError("model_broken", name=piece.name, reason="no embedding in this picture")
        else:
            open_file_header(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.rename(target)
    except DanqingError as error:
        part.unlink(missing_ok=True)
        raise DanqingError(error.code, **{**error.params, "name": piece.name}) from None
