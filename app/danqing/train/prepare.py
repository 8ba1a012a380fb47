"""Prepared copies of a training's pictures: cropped and resized, each with its caption and its mask. No torch.

Each picture keeps its aspect ratio as far as the sizes of a few buckets allow (NovelAI's aspect ratio bucketing, 2022): it is
scaled to cover the nearest bucket and cropped in the middle.
"""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from danqing.errors import DanqingError
from danqing.library.index import Library
from danqing.library.whole import replace_whole
from danqing.train.captions import words_of
from danqing.train.data import Picture, Report, decoded, report
from danqing.train.folder import Training, write_error
from danqing.train.recipe import TrainRequest
from danqing.train.settings import Limits
from danqing.train.source import Source, opened

INDEX = "index.json"

STEP = 64
SMALL = 256
"""Resolutions below it take a quarter of themselves as the step."""

MOST = 2.0
"""A bucket's longer side over the resolution, at most."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared copy: `file` and `mask` in the training's `pictures/`, width and height in pixels."""

    file: str
    source: str
    sha256: str
    width: int
    height: int
    mask: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """What has been prepared, and the digest of what it was made from."""

    pictures: tuple[Prepared, ...]
    resolution: int
    data_sha256: str
    notes: tuple[dict[str, Any], ...] = ()
    """Issues of the report, as code and values."""


def buckets(resolution: int) -> list[Size]:
    """Sizes (width, height) of about `resolution` squared pixels and no more, sides multiples of a step."""
    step = STEP if resolution >= SMALL else max(8, resolution // 4 // 8 * 8)
    area = resolution * resolution
    found = {(resolution, resolution)}
    for side in range(step * math.ceil(resolution / MOST / step), resolution + 1, step):
        other = min(area // side // step * step, int(resolution * MOST))
        found |= {(side, other), (other, side)}
    return sorted(found)


def bucket_of(size: Size, resolution: int, several: bool = True) -> Size:
    """The bucket whose aspect ratio is nearest to that of `size`."""
    if not several:
        return resolution, resolution
    wanted = math.log(size[0] / size[1])
    return min(buckets(resolution), key=lambda b: (abs(math.log(b[0] / b[1]) - wanted), -b[0] * b[1]))


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """Scaled so that it covers `size`, and cropped in the middle to it."""
    scale = max(size[0] / image.width, size[1] / image.height)
    width, height = size[0] / scale, size[1] / scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))


def resolution_of(root: Path, recipe: TrainRequest) -> int:
    """Side in pixels: the recipe's, else the checkpoint's own.

    Raises:
        DanqingError: `unknown_model`, `no_model`.
    """
    return recipe.resolution or Library(root).resolve(recipe.model).native_size


def prepared(training: Training) -> Index | None:
    """What has been prepared; None before `prepare` is through."""
    try:
        found = json.loads((training.pictures / INDEX).read_text("utf-8"))
        pictures = tuple(Prepared(**row) for row in found.pop("pictures"))
        return Index(pictures, found["resolution"], found["data_sha256"], tuple(found["notes"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def prepare(training: Training, root: Path, limits: Limits | None = None) -> Index:
    """Make the prepared copies, once; what is there already is kept with its edited captions.

    Raises:
        DanqingError: what `report` and `Report.fatal` have; `unknown_model`, `disk_full`, `cannot_write`.
    """
    known = prepared(training)
    if known is not None:
        return known
    limits, recipe = limits or Limits(), training.recipe()
    resolution = resolution_of(root, recipe)
    path = Path(recipe.data)
    found = report(path, resolution, limits)
    if found.fatal is not None:
        raise found.fatal
    shutil.rmtree(training.pictures, ignore_errors=True)
    try:
        training.pictures.mkdir(parents=True)
        with opened(path, limits) as source:
            made = tuple(_Copier(training, source, recipe, resolution, limits).all(found))
        index = Index(
            made, resolution, found.sha256, tuple({"code": i.code, "values": i.error.params} for i in found.issues)
        )
        replace_whole(training.pictures / INDEX, json.dumps(asdict(index), ensure_ascii=False).encode())
    except OSError as error:
        raise write_error(training.pictures, error) from None
    return index


class _Copier:
    def __init__(
        self, training: Training, source: Source, recipe: TrainRequest, resolution: int, limits: Limits
    ) -> None:
        self._folder, self._source, self._recipe = training.pictures, source, recipe
        self._resolution, self._limits = resolution, limits

    def all(self, found: Report) -> Iterator[Prepared]:
        for number, picture in enumerate(found.pictures, 1):
            yield self._copy(f"{number:05}", picture)

    def _copy(self, stem: str, picture: Picture) -> Prepared:
        size = bucket_of((picture.width, picture.height), self._resolution, self._recipe.buckets)
        self._save(f"{stem}.png", picture.name, size, "RGB")
        mask = ""
        if self._recipe.masks and picture.mask:
            mask = f"{stem}-mask.png"
            self._save(mask, picture.mask, size, "L")
        words = picture.words if self._recipe.caption_source != "filename" else words_of(picture.name)
        replace_whole(self._folder / f"{stem}.txt", words.encode() + b"\n")
        return Prepared(f"{stem}.png", picture.name, picture.sha256, *size, mask)

    def _save(self, file: str, name: str, size: Size, mode: str) -> None:
        content = self._source.read(name)
        image: Image.Image
        image, _ = decoded(name, content, self._limits.pixels, lambda image: fitted(image, size).convert(mode))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=3)
        replace_whole(self._folder / file, buffer.getvalue())


def missing(training: Training) -> DanqingError:
    """A training whose prepared pictures are gone."""
    return DanqingError("train_no_pictures", path=training.id, reason="its prepared pictures are gone")
