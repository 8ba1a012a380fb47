"""Writing what a training makes: whole or not at all, whatever the disk says."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any, cast

import torch

from danqing.errors import DanqingError
from danqing.library.whole import sha256_of
from danqing.train.folder import write_error

ROOM = 16 * 2**20
"""Bytes that stay free beside what is written."""


def save_torch(path: Path, table: Any) -> None:
    """`torch.save` into a file beside `path` that takes its name when all is on disk; an older file stays until then.

    Raises:
        DanqingError: `disk_full`, `cannot_write`; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if free < _bytes(table) + ROOM:
        raise DanqingError("disk_full", free_mb=free // 2**20)
    descriptor, name = tempfile.mkstemp(prefix=".danqing-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    file = _Checked(descriptor)
    try:
        torch.save(table, cast("IO[bytes]", file))
        file.close()
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        found = file.error or (error if isinstance(error, OSError) else None)
        if found is None:
            raise
        raise write_error(path, found) from None
    finally:
        file.abandon()
        temporary.unlink(missing_ok=True)


class _Checked:
    """A file for torch, which hides the reason when a write fails: this keeps it."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += self._file.write(view[done:]) or 0
        except OSError as error:
            self.error = error
            raise
        return done

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            self.error = error
            raise

    def abandon(self) -> None:
        """Close without asking."""
        self._file.close()


def _bytes(table: Any) -> int:
    """Of all tensors in a tree of tables and lists."""
    if isinstance(table, torch.Tensor):
        return table.nbytes
    if isinstance(table, dict):
        return sum(map(_bytes, table.values()))
    return sum(map(_bytes, table)) if isinstance(table, list | tuple) else 0


def publish(made: Path, target: Path) -> None:
    """Give a finished file its place; one of the same bytes that is there already is the same result.

    Raises:
        DanqingError: `train_name_taken`, `disk_full`, `cannot_write`.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(made, target)
        except FileExistsError:
            if sha256_of(target) != sha256_of(made):
                raise DanqingError("train_name_taken", path=target.name) from None
        except OSError:
            _copied(made, target)  # another disk, or one without links
    except OSError as error:
        raise write_error(target, error) from None


def _copied(made: Path, target: Path) -> None:
    if target.exists():
        raise DanqingError("train_name_taken", path=target.name)
    temporary = target.with_name(f".danqing-{os.getpid()}.tmp")
    try:
        with made.open("rb") as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
