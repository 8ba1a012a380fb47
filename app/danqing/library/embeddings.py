"""Embeddings (textual inversion) under `DATA/embeddings`: words by the files' names, each standing for some vectors. No torch."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.errors import DanqingError
from danqing.library.embedding_files import Contents, read_bundle, read_embedding
from danqing.library.hashes import HashCache, Stamp
from danqing.library.index import stamp_of
from danqing.library.walking import walk
from danqing.prompt.tokenizer import tokenizer_of
from danqing.prompt.triggers import Triggers

if TYPE_CHECKING:
    import numpy as np

EXTENSIONS = (".pt", ".bin", ".safetensors", ".png", ".webp")
HASH_DIGITS = 12
MOST_BUNDLES = 64
"""LoRAs whose embeddings are kept in memory, and sets of them with their tokens."""

Widths = tuple[tuple[str, int], ...]
"""The text encoders of a model: kind and width of each."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """An embedding file. Two are equal when they are the same state of the same file."""

    name: str
    path: Path
    stamp: Stamp
    contents: Contents = field(repr=False)
    owner: str = ""
    """The LoRA that it came with; "" for a file of its own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Embedding) and (self.name, self.stamp) == (other.name, other.stamp)

    def __hash__(self) -> int:
        return hash((self.name, self.stamp))

    @property
    def length(self) -> int:
        """Vectors: how many tokens it takes in a prompt."""
        return int(next(iter(self.contents.vectors.values())).shape[0])

    @property
    def shape(self) -> int:
        """Numbers in a vector, of all encoders together."""
        return sum(int(vectors.shape[1]) for vectors in self.contents.vectors.values())

    def of(self, kind: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The vectors for an encoder, (length, width). What was made for one encoder is the same for any."""
        vectors = self.contents.vectors
        return vectors[kind] if kind in vectors else next(iter(vectors.values()))

    def fits(self, widths: Widths) -> bool:
        """Whether a model with these encoders can read it."""
        vectors = self.contents.vectors
        if len(widths) != len(vectors):
            return False
        return all(self.of(kind).shape[1] == width for kind, width in widths)


class Embeddings:
    """The embeddings under one data root. Safe to call from several threads.

    Folders are looked through again when one of them or a file that was found there has changed.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data / "embeddings"
        self._hashes = HashCache(data / "cache" / "hashes")
        self._lock = threading.Lock()
        self._folders: dict[str, int] = {}
        self._files: dict[str, tuple[int, int]] = {}
        self._known: dict[Stamp, Embedding | DanqingError | None] = {}
        self._found: dict[str, Embedding] = {}
        self._broken: dict[str, DanqingError] = {}
        self._bundles: dict[Stamp, tuple[Embedding, ...]] = {}
        self._triggers: dict[tuple[str, Widths, tuple[Embedding, ...]], Triggers] = {}

    def all(self) -> list[Embedding]:
        """All that could be read, by name; of several of one name the last counts."""
        with self._lock:
            self._look()
            return sorted(self._found.values(), key=lambda embedding: embedding.name.lower())

    def broken(self) -> dict[str, DanqingError]:
        """Files that could not be read, and why: `model_broken` or `model_unsafe`."""
        with self._lock:
            self._look()
            return dict(self._broken)

    def unfit(self, widths: Widths) -> dict[str, DanqingError | None]:
        """Names that a model cannot read: None for an embedding of another kind of model, else what is wrong with the file."""
        with self._lock:
            self._look()
            strange = {name: None for name, embedding in self._found.items() if not embedding.fits(widths)}
            return {**strange, **{name: error for name, error in self._broken.items() if name not in self._found}}

    def bundled(self, loras: Iterable[Path]) -> tuple[Embedding, ...]:
        """The embeddings inside LoRA files, which stand for their names where the LoRA is used.

        Raises:
            DanqingError: `model_broken`, `model_unsafe`.
        """
        return tuple(one for path in loras for one in self._bundle(path))

    def _bundle(self, path: Path) -> tuple[Embedding, ...]:
        stamp = stamp_of(path)
        if stamp is None:
            return ()
        with self._lock:
            found = self._bundles.get(stamp)
        if found is None:
            contents = read_bundle(path)
            found = tuple(Embedding(name, path, stamp, inside, path.stem) for name, inside in contents.items())
            with self._lock:
                while len(self._bundles) >= MOST_BUNDLES:
                    del self._bundles[next(iter(self._bundles))]
                self._bundles[stamp] = found
        return found

    def triggers(self, kind: str, widths: Widths, bundled: tuple[Embedding, ...] = ()) -> Triggers:
        """Finds the embeddings that fit a model in what the tokenizer of its encoder `kind` gives.

        bundled: of the LoRAs in use; a file of the same name comes before them.
        """
        with self._lock:
            self._look()
            found = self._triggers.get((kind, widths, bundled))
            if found is None:
                others = [embedding for embedding in bundled if embedding.name not in self._found]
                fitting = [embedding for embedding in (*self._found.values(), *others) if embedding.fits(widths)]
                while len(self._triggers) >= MOST_BUNDLES:
                    del self._triggers[next(iter(self._triggers))]
                found = self._triggers[kind, widths, bundled] = Triggers(tokenizer_of(kind), fitting)
            return found

    def short_hash(self, embedding: Embedding) -> str:
        """The first 12 digits of the file's sha256, as an infotext shows them; "" when the file has gone. Of one that came with a
        LoRA the LoRA's name stands there."""
        if embedding.owner:
            return embedding.owner
        full = self._hashes.get(embedding.stamp)
        if full is None:
            try:
                with embedding.path.open("rb") as file:
                    full = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                return ""
            self._hashes.put(embedding.stamp, full)
        return full[:HASH_DIGITS]

    def _look(self) -> None:
        if (
            self._folders
            and all(_changed(folder) == time for folder, time in self._folders.items())
            and all(_state(path) == state for path, state in self._files.items())
        ):
            return
        # Times are taken before the listing: what comes in between is seen at the next look.
        self._folders = {folder: _changed(folder) for folder, _ in _walk(self.folder)} or {str(self.folder): 0}
        self._files = {}
        known, self._known = self._known, {}
        self._found, self._broken, self._triggers = {}, {}, {}
        for folder, names in _walk(self.folder):
            for name in names:
                self._take(Path(folder, name), known)

    def _take(self, path: Path, known: dict[Stamp, Embedding | DanqingError | None]) -> None:
        stamp = stamp_of(path)
        if stamp is None:
            return
        self._files[str(path)] = stamp[2], stamp[1]
        found = known[stamp] if stamp in known else _read(path, stamp)
        self._known[stamp] = found
        if isinstance(found, DanqingError):
            self._broken[path.stem] = found
        elif found is not None:
            self._found[found.name] = found


def _read(path: Path, stamp: Stamp) -> Embedding | DanqingError | None:
    try:
        contents = read_embedding(path)
    except DanqingError as error:
        return error
    return Embedding(contents.name or path.stem, path, stamp, contents) if contents else None


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders below `root` with their files that may be embeddings; what is named `x.preview.png` is a card's picture."""
    for folder, folders, names in walk(root):
        folders.sort()
        yield (
            str(folder),
            sorted(
                name
                for name in names
                if name.lower().endswith(EXTENSIONS) and not Path(name).stem.lower().endswith(".preview")
            ),
        )


def _state(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
