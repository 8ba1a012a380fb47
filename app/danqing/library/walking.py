"""Folders of models, links followed. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder below `root` with the names of its folders and of its files, as `os.walk`; links are followed.

    A folder that several links lead to comes once: two links in a circle would otherwise be walked 2 ** 40 times. Names taken
    off the list of folders are not walked into.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(folder), folders, files


def files_below(root: Path) -> Iterator[Path]:
    """Every file below `root`, links followed."""
    for folder, _, names in walk(root):
        yield from (folder / name for name in names if (folder / name).is_file())
