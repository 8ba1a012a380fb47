"""All that somebody has, as one zip file that is never in memory or on disk as a whole."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator

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
    pipe, told = _Pipe(), list[dict[str, object]]()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for picture in pictures_of(gallery, owner):
            name = str(picture.path.relative_to(gallery.data).relative_to("outputs"))
            try:
                archive.writestr(name, picture.path.read_bytes())
            except FileNotFoundError:
                continue
            told.append({"file": name, "seed": picture.seed, "created": picture.created, "infotext": picture.infotext})
            yield pipe.taken()
        archive.writestr("index.json", json.dumps(told, ensure_ascii=False, indent=1))
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
