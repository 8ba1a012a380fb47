"""Pictures of models: the ones that lie beside their files, as the WebUI and its users name them, and those inside. No torch."""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from danqing.library.walking import walk

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
COVERS = "ssmd_cover_images"
THUMBNAIL = "modelspec.thumbnail"
"""Metadata with pictures in base64: a list that some trainers write, and the one of https://github.com/Stability-AI/ModelSpec."""

SETTLED = 1.0
"""Seconds after which a folder's time tells every change."""

COVER_LIMIT = 16 * 1024 * 1024
"""Characters of a picture in base64."""


def preview_of(model: Path) -> Path | None:
    """The picture beside a model's file: `name.png` or `name.preview.png`, in one of the usual formats; None without one."""
    stem = model.with_suffix("") if model.suffix else model
    for ending in ENDINGS:
        for path in (stem.with_name(stem.name + ending), stem.with_name(f"{stem.name}.preview{ending}")):
            if path != model and path.is_file():
                return path
    return None


class Previews:
    """Which files are pictures beside models: found once, and again when a folder has changed. Safe to call from several threads.

    Args:
        roots: the folders that models lie in, with all below them.
        models: the models' files.
    """

    def __init__(self, roots: Callable[[], Iterable[Path]], models: Callable[[], Iterable[Path]]) -> None:
        self._roots, self._models = roots, models
        self._lock = threading.Lock()
        self._folders: dict[str, int] = {}
        self._found: dict[str, Path] = {}
        self._once_more = 0.0

    def find(self, path: str) -> Path | None:
        """The picture whose path this is, exactly as `preview_of` gives it; None for every other file."""
        with self._lock:
            if self._stale():
                self._look()
            return self._found.get(path)

    def _stale(self) -> bool:
        if self._once_more and time.monotonic() > self._once_more:
            return True
        return not self._folders or any(_changed(folder) != stamp for folder, stamp in self._folders.items())

    def _look(self) -> None:
        # Times are taken before the listing: what comes in between is seen at the next look.
        folders = [str(folder) for root in self._roots() for folder, _, _ in walk(root)]
        self._folders = {folder: _changed(folder) for folder in (*map(str, self._roots()), *folders)}
        found = (preview_of(model) for model in self._models())
        self._found = {str(path): path for path in found if path is not None}
        # A file system's clock stands still for some milliseconds: a folder that changed just now may change unseen.
        fresh = max(self._folders.values(), default=0) > time.time_ns() - SETTLED * 1e9
        self._once_more = time.monotonic() + SETTLED if fresh else 0.0


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


def covers(metadata: Mapping[str, Any]) -> list[bytes]:
    """The pictures inside a file's metadata; what is no base64 is left out."""
    listed = metadata.get(COVERS, ())
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            listed = ()
    texts = [*(listed if isinstance(listed, list) else ()), metadata.get(THUMBNAIL)]
    return [data for data in map(_decoded, texts) if data]


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > COVER_LIMIT:
        return b""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:image/") else text, validate=True)
    except (binascii.Error, ValueError):
        return b""
