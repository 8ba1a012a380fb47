"""What checkpoints are on disk. No torch: the web process and the engine both read this.

Folders are the WebUI's: `DATA/models/Stable-diffusion`, sub-folders included, and `DATA/models/diffusers`; a folder in
diffusers' layout counts as one checkpoint. The miniature model ships with the package and is always listed, last, so that a
fresh machine can draw.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

import danqing
from danqing.errors import DanqingError
from danqing.library.hashes import HashCache, Stamp
from danqing.library.shapes import towers
from danqing.library.walking import walk
from danqing.library.weights import FOLDER_PARTS, Weights, is_folder_model, open_weights, part_files

MINI = Path(danqing.__file__).parent / "mini" / "weights" / "danqing-mini.safetensors"
"""The miniature model that ships with the package."""

EXTENSIONS = (".safetensors", ".ckpt")
OLD_HASH = (0x100000, 0x10000)
"""Where the WebUI's old hash of eight digits looks: offset and bytes."""

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


def natural(name: str) -> list[Any]:
    """Sort key: lower case, digit runs compared as numbers; text and numbers take turns in it."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name.lower()))]


class Library:
    """The checkpoints under one data root. Safe to call from several threads; a call rescans the folder."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "models" / "Stable-diffusion"
        self.folders = (self.folder, data / "models" / "diffusers")
        self._hashes = HashCache(data / "cache" / "hashes")
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, Stamp], Checkpoint] = {}

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, in natural order folder by folder, the miniature model last."""
        paths = [(path.relative_to(root).as_posix(), path) for root in self.folders for path in models_below(root)]
        found = [c for name, path in paths if (c := self._describe(name, path)) is not None]
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
        checkpoint = _named(name, found)
        if checkpoint is None:
            known = ", ".join(c.title for c in found[:20])
            raise DanqingError("unknown_model", name=name[:200], folder=str(self.folder), known=known)
        return checkpoint

    def closest(self, name: str) -> Checkpoint:
        """As `resolve`, and where that finds nothing the checkpoint with the shortest title that `name` is a part of: how the
        WebUI reads the names in hires fix, refiner and scripts.

        Raises:
            DanqingError: `unknown_model`, `no_model`.
        """
        try:
            return self.resolve(name)
        except DanqingError as error:
            if error.code != "unknown_model":
                raise
            found = sorted(self.checkpoints(), key=lambda c: len(c.title))
            for part in (name, re.sub(r"\s*\[[^\]]*\]\s*$", "", name)):
                for checkpoint in found:
                    if part and part in checkpoint.title:
                        return checkpoint
            raise

    def hashed(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same with its sha256, read from the cache or computed now (reads the whole file) and cached."""
        if checkpoint.sha256:
            return checkpoint
        return replace(checkpoint, sha256=self.sha256_of(checkpoint.filename))

    def sha256_of(self, path: Path) -> str:
        """The sha256 of any file (of a folder: its UNet's), read from the cache or computed now and cached.

        Raises:
            OSError: the file cannot be read.
        """
        stamp = stamp_of(path)
        known = self._hashes.get(stamp) if stamp is not None else None
        if known is not None:
            return known
        with main_file(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.record(stamp, digest)
        return digest

    def record(self, stamp: Stamp | None, sha256: str) -> None:
        """Keep a sha256 that somebody who read the whole file has found; `stamp` was taken before the reading."""
        if stamp is None or self._hashes.get(stamp) == sha256:
            return
        self._hashes.put(stamp, sha256)
        with self._lock:
            for key in [key for key in self._known if key[1] == stamp]:
                del self._known[key]

    def _describe(self, name: str, path: Path) -> Checkpoint | None:
        stamp = stamp_of(path)
        if stamp is None:
            return None
        # By its name as well: a link is a checkpoint of its own. A YAML may come or go while the file stays.
        key, config = (path, stamp), _config_of(path)
        with self._lock:
            known = self._known.get(key)
        if known is not None and known.config != config:
            known = None
        if known is not None and known.sha256 is not None:
            return known
        known = replace(known or _inspect(name, path, config), sha256=self._hashes.get(stamp))
        with self._lock:
            self._known[key] = known
        return known


def _named(name: str, found: list[Checkpoint]) -> Checkpoint | None:
    """The checkpoint that `name` names exactly; of several the one registered last, as in the WebUI."""
    by_id = {one: checkpoint for checkpoint in found for one in checkpoint.ids()}
    if (checkpoint := by_id.get(name)) is not None:
        return checkpoint
    ending = re.search(r"\s*\[([0-9a-f]{8,64})\]\s*$", name)
    digits = ending[1] if ending else name
    if re.fullmatch(r"[0-9a-f]{8}", digits):
        for checkpoint in reversed(found):
            if old_hash(checkpoint.filename) == digits:
                return checkpoint
    if ending is None:
        return None
    # A title that was written when the hash was known, met before it is known again.
    bare = by_id.get(name[: ending.start()])
    return bare if bare is not None and bare.sha256 is None else None


def old_hash(path: Path) -> str | None:
    """The eight digits by which the WebUI knew checkpoints until 2022; None for a file that cannot be read."""
    try:
        with main_file(path).open("rb") as file:
            file.seek(OLD_HASH[0])
            return hashlib.sha256(file.read(OLD_HASH[1])).hexdigest()[:8]
    except (OSError, DanqingError):
        return None


def models_below(root: Path, extensions: tuple[str, ...] = EXTENSIONS, vaes: bool = False) -> list[Path]:
    """Model files and diffusers' folders below `root`, links followed: folder by folder in natural order.

    `vaes`: those with ".vae." in their names are wanted, and folders are not.
    """
    rows = sorted(_walk(root, extensions, vaes), key=lambda row: natural(row[0].relative_to(root).as_posix()))
    return [folder / name for folder, names in rows for name in sorted(names, key=natural)]


def _walk(root: Path, extensions: tuple[str, ...], vaes: bool) -> Iterator[tuple[Path, list[str]]]:
    """Every folder with the names of the models in it; a diffusers' folder is a model and is not walked into."""
    for here, folders, files in walk(root):
        models = {name for name in folders if is_folder_model(here / name)}
        folders[:] = [name for name in folders if name not in models]
        names = [n for n in files if n.lower().endswith(extensions) and (vaes or ".vae." not in n.lower())]
        yield here, names if vaes else [*names, *models]


def main_file(path: Path) -> Path:
    """The file that stands for a model: itself, or the UNet's weights of a folder.

    Raises:
        DanqingError: `model_broken`, for a folder without weights.
    """
    return part_files(path / FOLDER_PARTS[0], path.name)[0] if path.is_dir() else path


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file as it is now, None when there is no file."""
    try:
        stat = main_file(path).stat()
    except (OSError, DanqingError):
        return None
    if not S_ISREG(stat.st_mode):
        return None  # a pipe would be waited for
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def _config_of(path: Path) -> Path | None:
    """The YAML beside a file."""
    beside = (path.with_suffix(ending) for ending in (".yaml", ".yml"))
    return next((config for config in beside if config.is_file() and not path.is_dir()), None)


def _inspect(name: str, path: Path, config: Path | None) -> Checkpoint:
    try:
        weights = open_weights(path)
    except DanqingError:
        weights = Weights(())
    return Checkpoint(
        name=name,
        filename=path,
        sha256=None,
        config=config,
        native_size=_native_size(weights, config is not None),
        license=weights.metadata.get("modelspec.license", ""),
    )


def _native_size(weights: Weights, described: bool) -> int:
    """In pixels: as the file says, else as its family was trained. SD 2.x without a YAML is mostly the one of 768."""
    match = re.fullmatch(r"(\d{2,4})(?:x\d{2,4})?", weights.metadata.get("modelspec.resolution", ""))
    if match:
        return int(match[1])
    sample = weights.configs.get("unet", {}).get("sample_size")
    if isinstance(sample, int) and 8 <= sample <= 512:
        return sample * 8
    kinds = {tower.kind for tower in towers(weights.shapes)}
    if "open_clip_g" in kinds:
        return 1024
    return 768 if "open_clip_h" in kinds and not described else DEFAULT_SIZE
