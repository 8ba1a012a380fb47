"""Files that are whole or not there: a name of its own, write, fsync, link, fsync the folder."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the kernel says when there is no room for a file: disk full, quota, file size limit."""

_NUMBER = re.compile(r"^(\d+)-")


def is_full(error: BaseException) -> bool:
    """Whether an error means that there is no room."""
    return isinstance(error, OSError) and error.errno in FULL


def part_of(path: Path) -> Path:
    """Where the bytes of `path` are while they are not yet whole: hidden, in the same folder."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, data: bytes) -> None:
    """Write a new file; after a crash at any moment `path` is either absent or complete.

    Raises:
        FileExistsError: somebody else made a file of this name; it is left as it is.
        OSError: nothing is left behind.
    """
    part = part_of(path)
    try:
        _write(part, data)
        _publish(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _publish(part: Path, path: Path) -> None:
    # link, unlike rename, never replaces another program's file. Some file systems (exFAT, a few network ones) have no
    # links: there the check and the rename are two steps, and only a foreign writer of the same name could come between.
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.rename(path)


def make_folder(folder: Path, root: Path) -> None:
    """Make `folder` below `root`, with every new folder's entry on disk."""
    missing = [step for step in (folder, *folder.parents) if step.is_relative_to(root) and not step.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def next_number(folder: Path) -> int:
    """1 + the highest number that a name in the folder begins with; 0 in an empty one (spec 17)."""
    with os.scandir(folder) as entries:
        found = (_NUMBER.match(entry.name) for entry in entries)
        return 1 + max((int(match[1]) for match in found if match), default=-1)
