"""Files that only the service may read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from danqing.errors import DanqingError


def make_folder(path: Path) -> None:
    """The folder of such files, for its owner only, where it is missing.

    Raises:
        DanqingError: `cannot_write`.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DanqingError("cannot_write", path=str(path), reason=error.strerror or str(error)) from None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process is in here for the same folder: for what is read, changed and written back. The folder is made.

    Raises:
        DanqingError: `cannot_write`.
    """
    make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_secret(path: Path, content: str) -> None:
    """Replace `path` whole, readable by its owner only; its folder is made if it is missing.

    Raises:
        DanqingError: `cannot_write`, for the folder.
    """
    make_folder(path.parent)
    # Root writes here too, in a folder of the service's: a name that nobody guesses, of a file that nobody laid there before.
    half = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def hand_over(path: Path) -> None:
    """Give a file that root made to the owner of its folder: the service reads it. A link is given away, never what it names."""
    folder = path.parent.stat()
    if os.geteuid() == 0 and folder.st_uid != path.stat(follow_symlinks=False).st_uid:
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)
