"""Pictures to train on, as people hand them in: each owner's own sets below DATA/datasets. Everything here blocks.

A set is a flat folder of uploaded copies with their captions. A zip is unpacked by the training room's bounded reader. A caption
that is edited is written beside the copy; the one that came with it is kept.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from danqing.errors import DanqingError
from danqing.gallery.store import check_room
from danqing.library.whole import replace_whole
from danqing.train import captions
from danqing.train.data import ENDINGS, MASK, Issue, Report, decoded, report
from danqing.train.folder import write_error
from danqing.train.settings import Limits
from danqing.train.source import opened, unpacking

NAME = re.compile(r"\w[\w .()+-]{0,60}")
"""Of a set."""

OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Owners whose folder is called like them; others get a digest."""

KINDS = (*ENDINGS, *captions.SIDECARS)
ZIP = ".zip"

LONGEST = 180
"""Bytes of a file's name, of which a Chinese character has three; file systems take 255."""

SIDE = 320
"""Pixels of the longer side of a picture that is shown."""

SEEN = 1024
"""The same for one that an interrogator looks at, whose networks read less than 600."""


class Datasets:
    """All sets below one data root.

    Args:
        reserve_mb: room that must stay free on the disk.
    """

    def __init__(self, data: Path, limits: Limits, reserve_mb: int = 0) -> None:
        self._data, self.limits, self._reserve = data, limits, reserve_mb

    def folder(self, owner: str) -> Path:
        """Where the sets of an owner lie; a person may also copy folders there."""
        name = owner if OWNER.fullmatch(owner) else "u" + hashlib.sha256(owner.encode()).hexdigest()[:24]
        return self._data / "datasets" / name

    def names(self, owner: str) -> list[str]:
        """The owner's sets."""
        try:
            found = [path for path in self.folder(owner).iterdir() if not path.name.startswith(".")]
            return sorted(path.name for path in found if path.is_dir() or _is_zip(path))
        except FileNotFoundError:
            return []

    def resolve(self, owner: str, name: str) -> Path:
        """The folder or zip that an owner's `name` means: a set, or a path that leads into the owner's folder.

        Raises:
            DanqingError: `train_data_unknown`, for all that lies elsewhere, links included.
        """
        home = self.folder(owner).resolve()
        try:
            path = (home / name).resolve()
            inside = path.is_relative_to(home) and path != home and (path.is_dir() or _is_zip(path))
        except (OSError, ValueError, RuntimeError):  # too long, with NUL, links in a ring
            inside = False
        if not name or not inside:
            known = ", ".join(self.names(owner)[:20]) or "-"
            raise DanqingError("train_data_unknown", name=name[:100], known=known)
        return path

    def report(self, owner: str, name: str, resolution: int) -> Report:
        """What a set holds.

        Raises:
            DanqingError: `train_data_unknown`, or what the training room says of it.
        """
        return report(self.resolve(owner, name), resolution, self.limits)

    def add(self, owner: str, name: str, file: str, content: bytes) -> tuple[int, list[Issue]]:
        """Put a picture, a caption, or all that a zip holds of them, into a set.

        Returns:
            How many files that were, and what could not be taken out of a zip.

        Raises:
            DanqingError: `invalid_field`, `train_archive`, `train_too_many_pictures`, `disk_full`, `cannot_write`.
        """
        if not NAME.fullmatch(name) or name != name.strip():
            raise DanqingError("invalid_field", field="name", reason="letters, digits, spaces and .()+-_")
        if self._reserve:
            check_room(self._data, self._reserve)
        target = self.folder(owner) / name
        if file.lower().endswith(ZIP):
            return self._unpack(target, file, content)
        self._check_count(target, [flat(file)])
        self._write(target, flat(file), content)
        return 1, []

    def _check_count(self, target: Path, more: Iterable[str]) -> None:
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if sum(name.lower().endswith(ENDINGS) for name in names.union(more)) > self.limits.pictures:
            raise DanqingError("train_too_many_pictures", path=target.name, maximum=self.limits.pictures)

    def _unpack(self, target: Path, file: str, content: bytes) -> tuple[int, list[Issue]]:
        """A member that cannot be read costs none of the others."""
        issues: list[Issue] = []
        with unpacking(content, flat(file), self.limits) as source:
            members = {name: flat(name) for name in source.names() if name.lower().endswith(KINDS)}
            self._check_count(target, members.values())
            for name, plain in members.items():
                try:
                    self._write(target, plain, source.read(name))
                except DanqingError as error:
                    if error.code != "train_picture_broken":
                        raise
                    issues.append(Issue(error, name))
        return len(members) - len(issues), issues

    def _write(self, target: Path, file: str, content: bytes) -> None:
        if not file.lower().endswith(KINDS):
            raise DanqingError("invalid_field", field="files", reason="one of " + ", ".join((*KINDS, ZIP)))
        if len(content) > self.limits.file:
            raise DanqingError("body_too_large", size=len(content), maximum=self.limits.file)
        try:
            replace_whole(target / file, content)
        except OSError as error:
            raise write_error(target, error) from None

    def remove(self, owner: str, name: str) -> None:
        """Throw a set away.

        Raises:
            DanqingError: `train_data_unknown`.
        """
        path = self.resolve(owner, name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def remove_all(self, owner: str) -> None:
        """Throw all of an owner's sets away."""
        shutil.rmtree(self.folder(owner), ignore_errors=True)

    def picture(self, owner: str, name: str, file: str) -> bytes:
        """A picture of a set, made small, as JPEG.

        Raises:
            DanqingError: `train_data_unknown`, `unknown_picture`, `train_picture_broken`.
        """
        with opened(self.resolve(owner, name), self.limits) as source:
            if file not in source.names() or not file.lower().endswith(ENDINGS):
                raise DanqingError("unknown_picture", picture=file[:64])
            content = source.read(file)
        return decoded(file, content, self.limits.pixels, _small)[0]

    def whole(self, owner: str, name: str, file: str) -> bytes:
        """A picture of a set as those who describe it see it, no larger than they can use, as PNG.

        Raises:
            DanqingError: `train_data_unknown`, `unknown_picture`, `train_picture_broken`.
        """
        path = self._picture(self.resolve(owner, name), file)
        with opened(path.parent, self.limits) as source:
            content = source.read(path.name)
        return decoded(file, content, self.limits.pixels, _seen)[0]

    def remove_picture(self, owner: str, name: str, file: str) -> None:
        """Take a picture out of a set, with its caption and its mask.

        Raises:
            DanqingError: `train_data_unknown`, `unknown_picture`.
        """
        picture = self._picture(self.resolve(owner, name), file)
        picture.unlink()
        if _beside(picture, picture.stem, ENDINGS):
            return  # of two of one name the other keeps caption and mask
        texts = _beside(picture, picture.stem, captions.SIDECARS)
        originals = [path.with_name(f".{path.name}.original") for path in texts]
        for path in (*texts, *originals, *_beside(picture, picture.stem + MASK, ENDINGS)):
            path.unlink(missing_ok=True)

    def _picture(self, folder: Path, file: str) -> Path:
        picture = folder / file
        odd = ".." in picture.parts or not file.isprintable()
        if odd or not file.lower().endswith(ENDINGS) or not _is_below(picture, folder):
            raise DanqingError("unknown_picture", picture=file[:64])
        return picture

    def write_caption(self, owner: str, name: str, file: str, text: str) -> None:
        """Give a picture of a set another caption.

        Raises:
            DanqingError: `train_data_unknown`, `unknown_picture`, `train_caption_long`, `disk_full`.
        """
        folder = self.resolve(owner, name)
        picture = self._picture(folder, file)
        text = captions.checked(file, " ".join(text.split()), self.limits.caption)
        beside = next(
            iter(_beside(picture, picture.stem, captions.SIDECARS)), picture.with_suffix(captions.SIDECARS[0])
        )
        first = beside.with_name(f".{beside.name}.original")
        try:
            if beside.is_file() and not first.exists():
                shutil.copyfile(beside, first)
            replace_whole(beside, text.encode() + b"\n")
        except OSError as error:
            raise write_error(folder, error) from None

    def told(self, owner: str) -> list[Mapping[str, Any]]:
        """The owner's sets with how many pictures lie in each."""
        return [{"name": name, "pictures": self._count(owner, name)} for name in self.names(owner)]

    def _count(self, owner: str, name: str) -> int:
        try:
            with opened(self.folder(owner) / name, self.limits) as source:
                return sum(file.lower().endswith(ENDINGS) for file in source.names())
        except DanqingError:
            return 0


def flat(file: str) -> str:
    """A file name without folders: those become part of it. What a person's system puts in front of a path goes.

    Raises:
        DanqingError: `invalid_field`.
    """
    parts = [part for part in PurePosixPath(file.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    name = "_".join(parts).lstrip(".")
    if not name or not name.isprintable():
        raise DanqingError("invalid_field", field="files", reason="a file name")
    ending = PurePosixPath(name).suffix if name.lower().endswith((*KINDS, ZIP)) else ""
    # Cut in front of the ending, so that a picture and its caption stay together.
    return name.removesuffix(ending).encode()[-LONGEST:].decode(errors="ignore") + ending


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ZIP and path.is_file()


def _beside(picture: Path, stem: str, endings: Sequence[str]) -> list[Path]:
    """Files `stem` beside a picture with one of the endings, in the endings' order."""
    found = [path for path in picture.parent.iterdir() if path.stem == stem and path.suffix.lower() in endings]
    return sorted(found, key=lambda path: endings.index(path.suffix.lower()))


def _is_below(path: Path, folder: Path) -> bool:
    """Whether `path` is a plain file in `folder` or below it."""
    return folder.is_dir() and path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder)


def _seen(image: Image.Image) -> bytes:
    image.thumbnail((SEEN, SEEN))
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _small(image: Image.Image) -> bytes:
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()
