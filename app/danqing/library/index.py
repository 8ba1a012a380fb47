"""What checkpoints are on disk. No torch: the web process and the engine both read this.

Folders are the WebUI's: `DATA/models/Stable-diffusion`, sub-folders included. The miniature model ships with the package
and is always listed, last, so that a fresh machine can draw.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import danqing
from danqing.errors import DanqingError
from danqing.library.header import read_header

MINI = Path(danqing.__file__).parent / "mini" / "weights" / "danqing-mini.safetensors"
"""The miniature model that ships with the package."""

Stamp = tuple[str, int, int]
"""What tells one state of a file from another: path, bytes, time of the last change in ns."""

EXTENSIONS = (".safetensors",)
DEFAULT_SIZE = 512


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint file. `sha256` is None until the file has been hashed once (`Library.hashed`)."""

    name: str
    """Path below the models folder, "/" between parts."""
    filename: Path
    sha256: str | None
    config: Path | None
    """The YAML beside the file."""
    native_size: int
    """Side in pixels that the model was trained on."""
    license: str

    @property
    def hash10(self) -> str | None:
        return self.sha256[:10] if self.sha256 else None

    @property
    def title(self) -> str:
        return f"{self.name} [{self.hash10}]" if self.sha256 else self.name

    @property
    def model_name(self) -> str:
        return os.path.splitext(self.name)[0].replace("/", "_").replace("\\", "_")

    @property
    def base(self) -> str:
        """File name without folders and extension: what the infotext calls the model."""
        return self.filename.stem

    def ids(self) -> set[str]:
        """Everything that names exactly this file (WebUI, section "Names and hashes")."""
        ids = {self.model_name, self.title, self.name, self.filename.stem, self.filename.name}
        if self.sha256:
            short = self.sha256[:10]
            ids |= {short, self.sha256, f"{self.name} [{short}]", f"{self.filename.stem} [{short}]"}
        return ids


def _natural(name: str) -> list[tuple[int, str, int]]:
    """Sort key: lower case, digit runs compared as numbers."""
    return [(1, "", int(p)) if p.isdigit() else (0, p, 0) for p in re.split(r"(\d+)", name.lower()) if p]


class Library:
    """The checkpoints under one data root. Safe to call from several threads; a call rescans the folder."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "models" / "Stable-diffusion"
        self._hashes = data / "cache" / "hashes"
        self._lock = threading.Lock()
        self._known: dict[Stamp, Checkpoint] = {}

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, in natural order, the miniature model last."""
        found: list[Checkpoint] = []
        if self.folder.is_dir():
            paths = (
                p for p in self.folder.rglob("*") if p.suffix.lower() in EXTENSIONS and ".vae." not in p.name.lower()
            )
            names = sorted(
                ((p.relative_to(self.folder).as_posix(), p) for p in paths), key=lambda row: _natural(row[0])
            )
            found = [c for name, path in names if (c := self._describe(name, path)) is not None]
        if MINI.is_file() and (mini := self._describe(MINI.name, MINI)) is not None:
            found.append(mini)
        return found

    def default(self) -> Checkpoint:
        """The first checkpoint.

        Raises:
            DanqingError: `no_model`, when there is none.
        """
        found = self.checkpoints()
        if not found:
            raise DanqingError("no_model", folder=str(self.folder))
        return found[0]

    def resolve(self, name: str) -> Checkpoint:
        """The checkpoint that `name` (a title, file name, model name or hash; "" is the default) names exactly.

        Raises:
            DanqingError: `unknown_model`, or `no_model` for "" on an empty disk.
        """
        if not name:
            return self.default()
        found = self.checkpoints()
        for checkpoint in found:
            if name in checkpoint.ids():
                return checkpoint
        bare = re.sub(r"\s*\[[0-9a-f]+\]\s*$", "", name)
        for checkpoint in found:
            if bare != name and checkpoint.sha256 is None and bare in checkpoint.ids():
                return checkpoint
        known = ", ".join(c.title for c in found[:20])
        raise DanqingError("unknown_model", name=name[:200], folder=str(self.folder), known=known)

    def hashed(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same with its sha256, read from the cache or computed now (reads the whole file) and cached."""
        if checkpoint.sha256:
            return checkpoint
        stamp = stamp_of(checkpoint.filename)
        with checkpoint.filename.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.record(stamp, digest)
        return replace(checkpoint, sha256=digest)

    def record(self, stamp: Stamp | None, sha256: str) -> None:
        """Keep a sha256 that somebody who read the whole file has found; `stamp` was taken before the reading."""
        if stamp is None or self._read_hash(stamp) == sha256:
            return
        self._write_hash(stamp, sha256)
        with self._lock:
            self._known.pop(stamp, None)

    def _describe(self, name: str, path: Path) -> Checkpoint | None:
        key = stamp_of(path)
        if key is None:
            return None
        with self._lock:
            known = self._known.get(key)
        sha256 = known.sha256 if known else None
        if known is not None and sha256 is not None:
            return known
        sha256 = self._read_hash(key)
        if known is None:
            known = _inspect(name, path)
        known = replace(known, sha256=sha256)
        with self._lock:
            self._known[key] = known
        return known

    def _hash_file(self, key: Stamp) -> Path:
        return self._hashes / (
            hashlib.sha1(key[0].encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest() + ".json"
        )

    def _read_hash(self, key: Stamp) -> str | None:
        try:
            row = json.loads(self._hash_file(key).read_text("utf-8"))
            return str(row["sha256"]) if (row["size"], row["mtime_ns"]) == key[1:] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_hash(self, key: Stamp, digest: str) -> None:
        """One small file a model, replaced whole: two processes may hash at once. A full disk only costs hashing again."""
        file = self._hash_file(key)
        temporary = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(
                json.dumps({"path": key[0], "size": key[1], "mtime_ns": key[2], "sha256": digest}), "utf-8"
            )
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file as it is now, None when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def _inspect(name: str, path: Path) -> Checkpoint:
    try:
        metadata = read_header(path).metadata
    except DanqingError:
        metadata = {}
    config = path.with_suffix(".yaml")
    return Checkpoint(
        name=name,
        filename=path,
        sha256=None,
        config=config if config.is_file() else None,
        native_size=_native_size(metadata),
        license=metadata.get("modelspec.license", ""),
    )


def _native_size(metadata: dict[str, str]) -> int:
    match = re.fullmatch(r"(\d{2,4})(?:x\d{2,4})?", metadata.get("modelspec.resolution", ""))
    return int(match[1]) if match else DEFAULT_SIZE
