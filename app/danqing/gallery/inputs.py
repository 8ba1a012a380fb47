"""Pictures that people hand in: checked, brought to one form, kept under the name of their content.

A request names them by the sha256 of their PNG, so that a job in the queue is whole whatever its client does meanwhile, and the
same picture sent a hundred times is stored once. Everything here blocks and belongs into a thread.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from danqing.database import Database
from danqing.errors import DanqingError
from danqing.gallery import files
from danqing.gallery.reading import FORMATS, LIMIT_PIXELS, decoded
from danqing.request import input_path

FOLDER = "inputs"
ACCEPTED = (*FORMATS, "TIFF")


def keep(data: Path, picture: bytes, limit_pixels: int = LIMIT_PIXELS) -> str:
    """Store a picture that came from outside; its name.

    Raises:
        DanqingError: `broken_image`; `disk_full`.
    """
    return keep_whole(data, picture, limit_pixels)[0]


def keep_whole(data: Path, picture: bytes, limit_pixels: int = LIMIT_PIXELS) -> tuple[str, tuple[int, int]]:
    """As `keep`; its name, and its width and height."""

    def brought(image: Image.Image) -> tuple[bytes, tuple[int, int]]:
        plain = _upright(image)
        return _png(plain), plain.size

    content, size = decoded(picture, limit_pixels, brought, ACCEPTED)
    return _store(data, content), size


def opened(picture: bytes, limit_pixels: int = LIMIT_PIXELS) -> Image.Image:
    """The decoded picture: L, RGB or RGBA, 8 bits a channel, the way up that its EXIF says.

    Raises:
        DanqingError: `broken_image`, also when it is of no known format or has more than `limit_pixels` pixels.
    """
    return decoded(picture, limit_pixels, _upright, ACCEPTED)


def _upright(image: Image.Image) -> Image.Image:
    return _plain(ImageOps.exif_transpose(image))


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: the upper eight
        wide = np.clip(np.asarray(image, dtype=np.float32), 0, 65535)
        return Image.fromarray((wide / 257 if wide.max(initial=0) > 255 else wide).astype(np.uint8))
    clear = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if clear else "RGB")


def keep_image(data: Path, image: Image.Image) -> str:
    """Store a picture of ours; its name.

    Raises:
        DanqingError: `disk_full`.
    """
    return _store(data, _png(image))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _store(data: Path, content: bytes) -> str:
    name = hashlib.sha256(content).hexdigest()
    path = input_path(data, name)
    try:
        files.make_folder(path.parent, data)
        if path.is_file():
            os.utime(path)  # it is wanted again: its time to live begins anew
        else:
            files.write_whole(path, content)
    except FileExistsError:
        return name
    except OSError as error:
        if files.is_full(error):
            raise DanqingError("disk_full", free_mb=0) from error
        raise
    return name


def load(data: Path, name: str) -> Image.Image:
    """The picture of this name.

    Raises:
        DanqingError: `unknown_picture`.
    """
    try:
        image = Image.open(input_path(data, name))
        image.load()
    except FileNotFoundError:
        raise DanqingError("unknown_picture", picture=name[:64]) from None
    return image


def own(database: Database, owner: str, name: str) -> None:
    """Remember that an owner handed this picture in."""
    sql = "INSERT INTO input VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET created = excluded.created"
    database.write(lambda connection: connection.execute(sql, (owner, name, time.time())))


def check_own(database: Database, owner: str, names: Iterable[str]) -> None:
    """A picture that only others handed in is to an owner as if it were not there.

    Raises:
        DanqingError: `unknown_picture`.
    """
    for name in names:
        if database.row("SELECT 1 FROM input WHERE owner = ? AND name = ?", (owner, name)) is None:
            raise DanqingError("unknown_picture", picture=name[:64])


def disown(database: Database, wanted: Iterable[str], hours: float, now: float) -> None:
    """Forget who handed in what `sweep` removes."""
    keeping = set(wanted)
    old = database.rows("SELECT owner, name FROM input WHERE created < ?", (now - hours * 3600,))
    gone = [(row["owner"], row["name"]) for row in old if row["name"] not in keeping]
    sql = "DELETE FROM input WHERE owner = ? AND name = ?"
    database.write(lambda connection: connection.executemany(sql, gone))


def sweep(data: Path, wanted: Iterable[str], hours: float, now: float | None = None) -> int:
    """Remove pictures not handed in for `hours` that no job in `wanted` names; how many went."""
    keeping, before = set(wanted), (time.time() if now is None else now) - hours * 3600
    gone = 0
    for path in (data / FOLDER).glob("*/*.png"):
        if path.stem not in keeping and path.stat().st_mtime < before:
            path.unlink(missing_ok=True)
            gone += 1
    return gone
