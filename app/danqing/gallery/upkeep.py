"""What the gallery does on its own: repair after a crash, remove what was temporary, find again what the index lacks."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from PIL import Image

from danqing.database import Database, Row
from danqing.errors import DanqingError
from danqing.gallery import files, infotext
from danqing.gallery.reading import read_image
from danqing.gallery.store import DISCARDED, TEMPORARY

log = structlog.get_logger(__name__)

OUTPUTS = "outputs"

FOUND = """
INSERT INTO picture (id, owner, path, width, height, seed, infotext, sha256, created, temporary, complete)
VALUES (:id, :owner, :path, :width, :height, :seed, :infotext, :sha256, :created, 0, 1)
"""

OLD = """
SELECT * FROM picture WHERE complete = 1 AND temporary = 0 AND created < ?
AND NOT EXISTS (SELECT 1 FROM favourite WHERE favourite.picture = picture.id)
"""


def recover(data: Path, database: Database) -> int:
    """Settle the pictures that a crash left half stored: complete where the file is there, else gone. Blocks.

    Returns:
        how many there were.
    """
    rows = database.rows("SELECT * FROM picture WHERE complete = 0")
    whole = [row["id"] for row in rows if _is_whole(data / row["path"], row["sha256"])]
    for row in rows:
        files.part_of(data / row["path"]).unlink(missing_ok=True)

    def work(connection: sqlite3.Connection) -> None:
        connection.executemany("UPDATE picture SET complete = 1 WHERE id = ?", [(found,) for found in whole])
        connection.execute("DELETE FROM picture WHERE complete = 0")

    if rows:
        database.write(work)
        log.info("pictures recovered", whole=len(whole), gone=len(rows) - len(whole))
    return len(rows)


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def sweep(data: Path, database: Database, hours: float, now: float | None = None) -> int:
    """Remove temporary pictures older than `hours`, files before rows. Blocks.

    Returns:
        how many were removed.
    """
    now = time.time() if now is None else now
    before = now - hours * 3600
    rows = database.rows("SELECT * FROM picture WHERE temporary = 1 AND complete = 1 AND created < ?", (before,))
    gone = _remove_all(data, database, rows)
    _remove_empty(data / TEMPORARY, now - 3600)
    return gone


def retire(data: Path, database: Database, days: float, now: float | None = None, copied: float | None = None) -> int:
    """Remove saved pictures older than `days` that nobody has among the favourites; 0 days keeps everything. Blocks.

    Args:
        copied: of pictures that are copied elsewhere, only those made before this time are; the others stay for now.

    Returns:
        how many were removed.
    """
    if not days:
        return 0
    before = (time.time() if now is None else now) - days * 86400
    if copied is not None:
        before = min(before, copied)
    return _remove_all(data, database, database.rows(OLD, (before,)))


def empty_trash(data: Path, database: Database, days: float, now: float | None = None) -> int:
    """Remove for good what was discarded more than `days` ago (`Shelf.discard` touches the file). Blocks.

    Returns:
        how many were removed.
    """
    before = (time.time() if now is None else now) - days * 86400
    rows = database.rows("SELECT * FROM picture WHERE complete = ?", (DISCARDED,))
    return _remove_all(data, database, [row for row in rows if _discarded(data / row["path"]) < before])


def _discarded(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove_all(data: Path, database: Database, rows: Sequence[Row]) -> int:
    """Files before rows; what was said of the pictures elsewhere goes too."""
    gone = [(row["id"],) for row in rows if _remove(data / row["path"])]

    def work(connection: sqlite3.Connection) -> None:
        connection.executemany("DELETE FROM picture WHERE id = ?", gone)
        connection.executemany("DELETE FROM favourite WHERE picture = ?", gone)
        connection.executemany("DELETE FROM share WHERE picture = ?", gone)

    if gone:
        database.write(work)
    return len(gone)


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("picture not removed", path=str(path), error=str(error))
        return False
    return True


def _remove_empty(folder: Path, before: float) -> None:
    """Empty folders unchanged since `before`: into a younger one a picture may just be on its way."""
    for day in folder.glob("*/"):
        with contextlib.suppress(OSError):
            if day.stat().st_mtime < before:
                day.rmdir()


def rebuild(data: Path, database: Database, owner: str) -> int:
    """Index PNG files below `outputs/` that the index lacks, as pictures of `owner` without a job. Blocks.

    Returns:
        how many were found.
    """
    known = {row["path"] for row in database.rows("SELECT path FROM picture")}
    temporary = data / TEMPORARY
    paths = [path for path in sorted((data / OUTPUTS).rglob("[!.]*.png")) if not path.is_relative_to(temporary)]
    new = [row for path in paths if str(path.relative_to(data)) not in known and (row := _found(data, path, owner))]
    if new:
        database.write(lambda connection: connection.executemany(FOUND, new))
    return len(new)


def _found(data: Path, path: Path, owner: str) -> dict[str, str | int | float] | None:
    try:
        content = path.read_bytes()
        text, _ = read_image(content)
    except (OSError, DanqingError) as error:
        log.warning("picture not indexed", path=str(path), error=str(error))
        return None
    pairs = infotext.parse(text, fill=False)
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    seed = pairs.get("Seed", "")
    return {
        "id": secrets.token_hex(16),
        "owner": owner,
        "path": str(path.relative_to(data)),
        "width": width,
        "height": height,
        "seed": int(seed) if seed.isdecimal() and len(seed) < 19 else 0,
        "infotext": text,
        "sha256": hashlib.sha256(content).hexdigest(),
        "created": path.stat().st_mtime,
    }
