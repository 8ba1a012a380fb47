"""Pictures, or all that somebody has, as one zip file that is never in memory or on disk as a whole."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress

from danqing.errors import DanqingError
from danqing.gallery.store import Gallery, Picture

PAGE = 500


class _Pipe(io.RawIOBase):
    """Takes what the zip file writes; it cannot seek, so that zipfile writes sizes behind the data."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self.pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        found, self.pieces = b"".join(self.pieces), []
        return found


def exported(gallery: Gallery, owner: str) -> Iterator[bytes]:
    """Pieces of a zip file: every saved picture under its path below `outputs/`, and `index.json` with their infotexts.

    A picture whose file was taken away by hand is left out. Blocks; a piece is at most one picture.
    """
    told: list[dict[str, object]] = []

    def files() -> Iterator[tuple[str, bytes]]:
        for name, picture, content in _contents(gallery, pictures_of(gallery, owner)):
            told.append({"file": name, "seed": picture.seed, "created": picture.created, "infotext": picture.infotext})
            yield name, content
        yield "index.json", json.dumps(told, ensure_ascii=False, indent=1).encode()

    yield from _zipped(files())


def packed(gallery: Gallery, owner: str, ids: Iterable[str]) -> Iterator[bytes]:
    """Pieces of a zip file of these pictures; what is not this owner's, or no longer there, is left out."""

    def mine() -> Iterator[Picture]:
        for one in dict.fromkeys(ids):
            with suppress(DanqingError):
                picture = gallery.get(one)
                if picture.owner == owner:
                    yield picture

    yield from _zipped((name, content) for name, _, content in _contents(gallery, mine()))


def _contents(gallery: Gallery, pictures: Iterable[Picture]) -> Iterator[tuple[str, Picture, bytes]]:
    """Each picture's name below `outputs/` (below its own folder where it is not kept there) and what its file holds."""
    outputs = gallery.data / "outputs"
    for picture in pictures:
        inside = picture.path.is_relative_to(outputs)
        name = picture.path.relative_to(outputs if inside else picture.path.parent.parent)
        try:
            yield str(name), picture, picture.path.read_bytes()
        except FileNotFoundError:
            continue


def _zipped(files: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in files:
            archive.writestr(name, content)
            yield pipe.taken()
    yield pipe.taken()


def pictures_of(gallery: Gallery, owner: str) -> Iterator[Picture]:
    """Every saved picture of an owner, newest first."""
    before: float | None = None
    seen: set[str] = set()
    while page := gallery.pictures(owner, limit=PAGE, before=before):
        new = [picture for picture in page if picture.id not in seen]
        seen = {picture.id for picture in page}
        yield from (picture for picture in new if not picture.temporary)
        before = page[-1].created
