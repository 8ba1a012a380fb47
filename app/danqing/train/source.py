"""Where pictures come from: a folder, or a zip that is read in place. Nothing is unpacked by its name. No torch."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from danqing.errors import DanqingError
from danqing.train.settings import Limits

RATIO = 200
"""A member that grows more than so many times is no picture; flat PNGs stay below 100."""

SMALL = 2**20
"""Bytes below which a member's ratio does not matter."""

EXTRA = 4
"""Files a picture: its caption, its mask, and room for what people keep beside them."""


class Source(Protocol):
    """A tree of files. Names are relative, with "/" between parts."""

    def names(self) -> list[str]:
        """All files, in natural order of their names."""
        ...

    def read(self, name: str) -> bytes:
        """One file.

        Raises:
            DanqingError: `train_archive` for a member that is not what it says, `train_picture_broken` otherwise.
        """
        ...


class Folder:
    """A folder and those below it. Links are not followed."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits

    def names(self) -> list[str]:
        found: list[str] = []
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(folder, name).relative_to(self._root).as_posix() for name in files if name[0] != "."]
            if len(found) > EXTRA * self._limits.pictures:
                raise DanqingError("train_too_many_pictures", path=self._root.name, maximum=self._limits.pictures)
        return sorted(found)

    def read(self, name: str) -> bytes:
        path = self._root / name
        try:
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode):
                raise DanqingError("train_picture_broken", file=name, reason="it is a link, not a file")
            if facts.st_size > self._limits.file:
                reason = f"it has {facts.st_size} bytes, {self._limits.file} are the limit"
                raise DanqingError("train_picture_broken", file=name, reason=reason)
            return path.read_bytes()
        except OSError as error:
            raise DanqingError("train_picture_broken", file=name, reason=error.strerror or str(error)) from None


class Archive:
    """A zip. What its directory claims is checked first, and never believed when a member is read."""

    def __init__(self, file: zipfile.ZipFile, name: str, limits: Limits) -> None:
        self._file, self._name, self._limits = file, name, limits
        self._members = self._checked()

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        member = self._members[name]
        try:
            with self._file.open(member) as file:
                content = file.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise DanqingError("train_picture_broken", file=name, reason=str(error)[:200]) from None
        if len(content) != member.file_size:
            raise self._refused(f"{name} is not as long as the directory says")
        return content

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        infos = self._file.infolist()
        if len(infos) > EXTRA * self._limits.pictures:
            raise DanqingError("train_too_many_pictures", path=self._name, maximum=self._limits.pictures)
        for info in infos:
            if info.is_dir():
                continue
            self._check(info)
            if info.filename in members:
                raise self._refused(f"{info.filename[:100]} is in it twice")
            # What macOS puts beside every file, and hidden ones.
            if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(info.filename).parts):
                members[info.filename] = info
        if sum(info.file_size for info in infos) > self._limits.archive:
            raise self._refused(f"unpacked it has more than {self._limits.archive} bytes")
        return members

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        path = PurePosixPath(name)
        shown = name[:100]
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise self._refused(f"the name {shown!r} leads out of it")
        if info.flag_bits & 1:
            raise self._refused(f"{shown} is encrypted")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise self._refused(f"{shown} is a link or a device")
        if info.file_size > self._limits.file:
            raise self._refused(f"{shown} has {info.file_size} bytes, {self._limits.file} are the limit")
        if info.file_size > SMALL and info.file_size > RATIO * max(info.compress_size, 1):
            raise self._refused(f"{shown} grows more than {RATIO} times when it is unpacked")

    def _refused(self, reason: str) -> DanqingError:
        return DanqingError("train_archive", file=self._name, reason=reason)


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Source]:
    """The folder or the zip at `path`.

    Raises:
        DanqingError: `train_archive`, `train_too_many_pictures`; `train_no_pictures` for what is neither folder nor zip.
    """
    if path.is_dir():
        yield Folder(path, limits)
        return
    if not path.exists():
        raise DanqingError("train_no_pictures", path=path.name, reason="there is no such folder or zip any more")
    if not path.is_file():
        raise DanqingError("train_no_pictures", path=path.name, reason="it is neither a folder nor a zip")
    with _zipped(path, path.name, limits) as archive:
        yield archive


@contextmanager
def unpacking(content: bytes, name: str, limits: Limits) -> Iterator[Source]:
    """A zip in memory, called `name` in errors.

    Raises:
        DanqingError: `train_archive`, `train_too_many_pictures`.
    """
    with _zipped(io.BytesIO(content), name, limits) as archive:
        yield archive


@contextmanager
def _zipped(zipped: Path | IO[bytes], name: str, limits: Limits) -> Iterator[Source]:
    try:
        file = zipfile.ZipFile(zipped)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DanqingError("train_archive", file=name, reason=str(error)[:200]) from None
    with file:
        yield Archive(file, name, limits)
