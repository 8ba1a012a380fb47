"""Files that only the service may read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def write_secret(path: Path, content: str) -> None:
    """Replace `path` whole, readable by its owner only; its folder is made if it is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def hand_over(path: Path) -> None:
    """Give a file that root made to the owner of its folder: the service reads it."""
    folder = path.parent.stat()
    if os.geteuid() == 0 and folder.st_uid != path.stat().st_uid:
        shutil.chown(path, folder.st_uid, folder.st_gid)
