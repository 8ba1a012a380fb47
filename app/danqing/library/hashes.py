"""Hashes of files, kept on disk, so that a file is read for its hash once. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

Stamp = tuple[str, int, int]
"""What tells one state of a file from another: path, bytes, time of the last change in ns."""


class HashCache:
    """One small file for each hashed file. Several threads and processes may use a folder at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, stamp: Stamp, kind: str = "") -> str | None:
        """The hash that was kept for this state of the file. `kind` tells apart several hashes of one file."""
        try:
            row = json.loads(self._file(stamp, kind).read_text("utf-8"))
            return str(row["sha256"]) if (row["size"], row["mtime_ns"]) == stamp[1:] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, stamp: Stamp, digest: str, kind: str = "") -> None:
        """Keep a hash. Replaced whole: two processes may hash at once. A full disk only costs hashing again."""
        file = self._file(stamp, kind)
        temporary = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        row = {"path": stamp[0], "size": stamp[1], "mtime_ns": stamp[2], "sha256": digest}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(row), "utf-8")
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _file(self, stamp: Stamp, kind: str) -> Path:
        name = hashlib.sha1((kind + stamp[0]).encode("utf-8", "surrogateescape"), usedforsecurity=False)
        return self._folder / (name.hexdigest() + ".json")
