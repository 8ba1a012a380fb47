"""Looking a training's pictures through: what can be learned from, what is broken, what is there twice. No torch.

Originals are read and never changed.
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from danqing.errors import DanqingError, Language
from danqing.train import captions
from danqing.train.settings import Limits
from danqing.train.source import Source, opened

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MASK = "-mask"

FATAL = ("train_caption_long", "train_caption_broken")
"""What a person has to mend before a training can start; other issues leave a picture out, or only tell."""

SIDE = 16
ALIKE = 1.5
"""Mean difference in grey levels of two thumbnails below which pictures are nearly the same."""

COMPARED = 2000
"""Pictures that are compared with one another; of more, only equal files are found."""

KEPT = 5000
"""Pictures whose look is remembered, of a kilobyte each: a page asks for the same report again and again."""

T = TypeVar("T")

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that can be learned from. `caption`: what stands beside it, "" for nothing. `sha256`: of its file."""

    name: str
    width: int
    height: int
    sha256: str
    caption: str = ""
    mask: str = ""
    """Name of the mask beside it."""
    mask_sha256: str = ""

    @property
    def words(self) -> str:
        """Its own caption: the one beside it, else what its name says."""
        return self.caption or captions.words_of(self.name)


@dataclass(frozen=True, slots=True)
class Issue:
    """Something about a file that a person should know."""

    error: DanqingError
    file: str

    @property
    def code(self) -> str:
        return self.error.code

    def text(self, language: Language) -> str:
        return self.error.text(language)

    def told(self, language: Language) -> dict[str, str]:
        """JSON-ready."""
        return {"code": self.code, "file": self.file, "text": self.text(language)}


@dataclass(frozen=True, slots=True)
class Report:
    """What a folder or a zip holds."""

    pictures: tuple[Picture, ...]
    issues: tuple[Issue, ...]
    path: str = ""

    @property
    def captions(self) -> int:
        """Pictures with a caption beside them."""
        return sum(bool(picture.caption) for picture in self.pictures)

    @property
    def masks(self) -> int:
        return sum(bool(picture.mask) for picture in self.pictures)

    @property
    def duplicates(self) -> tuple[Issue, ...]:
        return self._of("train_picture_twice")

    @property
    def broken(self) -> tuple[Issue, ...]:
        return self._of("train_picture_broken")

    @property
    def too_large(self) -> tuple[Issue, ...]:
        return self._of("train_picture_huge")

    @property
    def too_small(self) -> tuple[Issue, ...]:
        return self._of("train_picture_small")

    @property
    def fatal(self) -> DanqingError | None:
        """Why a training cannot start with this, None when it can."""
        found = next((issue.error for issue in self.issues if issue.code in FATAL), None)
        if found is None and not self.pictures:
            reason = self.issues[0].error.text("en").rstrip(".") if self.issues else "there are no pictures in it"
            return DanqingError("train_no_pictures", path=self.path, reason=reason)
        return found

    @property
    def sha256(self) -> str:
        """Of the pictures and the captions beside them: equal data, equal digest."""
        digest = hashlib.sha256()
        for picture in sorted(self.pictures, key=lambda p: (p.name, p.sha256)):
            digest.update(f"{picture.sha256} {picture.words}\n{picture.mask_sha256}".encode())
        return digest.hexdigest()

    def as_dict(self, language: Language = "en") -> dict[str, Any]:
        """JSON-ready, sentences in `language`."""
        return {
            "pictures": [
                {
                    **{"name": p.name, "width": p.width, "height": p.height, "caption": p.caption},
                    **{"mask": bool(p.mask), "sha256": p.sha256},
                }
                for p in self.pictures
            ],
            "captions": self.captions,
            "masks": self.masks,
            "issues": [issue.told(language) for issue in self.issues],
            "fatal": self.fatal.text(language) if self.fatal else None,
            "sha256": self.sha256,
        }

    def _of(self, code: str) -> tuple[Issue, ...]:
        return tuple(issue for issue in self.issues if issue.code == code)


def report(path: Path, resolution: int = 512, limits: Limits | None = None) -> Report:
    """Look a folder or a zip through.

    Args:
        resolution: of the training; smaller pictures are told of.

    Raises:
        DanqingError: `train_archive`, `train_too_many_pictures`; `train_no_pictures` where `path` is neither folder nor zip.
    """
    limits = limits or Limits()
    with opened(path, limits) as source:
        return _Look(source, resolution, limits).report(path.name)


class _Looks:
    """Thumbnails and sizes by the digest of a file's bytes, of the pictures that were looked at last. Any thread may ask."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Pixels, tuple[int, int]]] = OrderedDict()
        self._turn = threading.Lock()

    def at(self, name: str, content: bytes, sha256: str, limit: int) -> tuple[Pixels, tuple[int, int]]:
        """
        Raises:
            DanqingError: as `decoded`.
        """
        with self._turn:
            found = self._known.pop(sha256, None)
        if found is None or found[1][0] * found[1][1] > limit:
            found = decoded(name, content, limit, _thumb)
        with self._turn:
            self._known[sha256] = found
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return found


_looks = _Looks()


def _thumb(image: Image.Image) -> Pixels:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


class _Look:
    def __init__(self, source: Source, resolution: int, limits: Limits) -> None:
        self._source, self._resolution, self._limits = source, resolution, limits
        self._names = source.names()
        # Cameras write endings in capitals.
        self._all = {stem + ending.lower(): name for name in self._names for stem, ending in (_split(name),)}
        self._issues: list[Issue] = []
        self._thumbs: list[Pixels] = []

    def report(self, path: str) -> Report:
        names = [name for name in self._names if name.lower().endswith(ENDINGS) and not self._is_mask(name)]
        if len(names) > self._limits.pictures:
            raise DanqingError("train_too_many_pictures", path=path, maximum=self._limits.pictures)
        pictures = [picture for name in names if (picture := self._picture(name)) is not None]
        kept = self._without_copies(pictures)
        return Report(tuple(kept), tuple(self._issues), path)

    def _is_mask(self, name: str) -> bool:
        stem, _ = _split(name)
        return stem.endswith(MASK) and any(stem.removesuffix(MASK) + end in self._all for end in ENDINGS)

    def _picture(self, name: str) -> Picture | None:
        try:
            content = self._source.read(name)
            sha256 = hashlib.sha256(content).hexdigest()
            pixels, size = _looks.at(name, content, sha256, self._limits.pixels)
            found = Picture(name, *size, sha256)
        except DanqingError as error:
            self._issues.append(Issue(error, name))
            return None
        self._thumbs.append(pixels)
        if max(found.width, found.height) < self._resolution:
            values = {"width": found.width, "height": found.height, "resolution": self._resolution}
            self._issues.append(Issue(DanqingError("train_picture_small", file=name, **values), name))
        return self._captioned(self._masked(found))

    def _captioned(self, picture: Picture) -> Picture:
        stem, _ = _split(picture.name)
        beside = next((self._all[stem + end] for end in captions.SIDECARS if stem + end in self._all), None)
        if beside is None:
            return picture
        try:
            text = captions.decoded(beside, self._source.read(beside), self._limits.caption)
        except DanqingError as error:
            self._issues.append(Issue(error, beside))
            return picture
        return replace(picture, caption=text)

    def _masked(self, picture: Picture) -> Picture:
        stem, _ = _split(picture.name)
        mask = next((self._all[stem + MASK + end] for end in ENDINGS if stem + MASK + end in self._all), None)
        if mask is None:
            return picture
        try:
            content = self._source.read(mask)
            sha256 = hashlib.sha256(content).hexdigest()
            _looks.at(mask, content, sha256, self._limits.pixels)
        except DanqingError as error:
            self._issues.append(Issue(error, mask))
            return picture
        return replace(picture, mask=mask, mask_sha256=sha256)

    def _without_copies(self, pictures: list[Picture]) -> list[Picture]:
        """Equal files count once. Pictures that are nearly the same stay: a person is told."""
        seen: dict[str, str] = {}
        kept: list[int] = []
        for index, picture in enumerate(pictures):
            if (other := seen.get(picture.sha256)) is not None:
                self._twice(picture.name, other)
                continue
            seen[picture.sha256] = picture.name
            kept.append(index)
        if 1 < len(kept) <= COMPARED:
            table = np.stack([self._thumbs[index] for index in kept]).reshape(len(kept), -1).astype(np.int16)
            for row in range(1, len(kept)):
                near = np.flatnonzero(np.abs(table[:row] - table[row]).mean(1) < ALIKE)
                if len(near):
                    self._twice(pictures[kept[row]].name, pictures[kept[int(near[0])]].name)
        return [pictures[index] for index in kept]

    def _twice(self, name: str, other: str) -> None:
        self._issues.append(Issue(DanqingError("train_picture_twice", file=name, other=other), name))


def _split(name: str) -> tuple[str, str]:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix), suffix


def decoded(name: str, content: bytes, limit: int, use: Callable[[Image.Image], T]) -> tuple[T, tuple[int, int]]:
    """What `use` makes of the decoded picture (RGB, turned as its EXIF says, white behind transparency), and its size.

    Raises:
        DanqingError: `train_picture_huge` before it is decoded, `train_picture_broken`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of what our own limit decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > limit:
                    raise DanqingError("train_picture_huge", file=name, width=width, height=height, maximum=limit)
                image.load()
                upright = opaque(ImageOps.exif_transpose(image))
                return use(upright), upright.size
    except Image.DecompressionBombError:
        raise DanqingError("train_picture_broken", file=name, reason="it claims far too many pixels") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, MemoryError, OverflowError) as error:
        reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
        raise DanqingError("train_picture_broken", file=name, reason=reason or type(error).__name__) from None


def opaque(image: Image.Image) -> Image.Image:
    """RGB, on white where it is transparent."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255 instead of scaling them
        return Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
