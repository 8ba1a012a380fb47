"""Pictures on disk and their index.

A picture is stored in three steps: its row is reserved (path and SHA-256, not complete), its file is written whole, the row is
completed. A crash between any two is repaired by `recover`, which looks whether the reserved file is there with these very
bytes; so nothing is lost, nothing is there twice, and no job id need stand in the file, whose bytes depend on the request alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import sqlite3
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from danqing import database as db
from danqing.database import Database, Row
from danqing.engine.protocol import ImageFacts
from danqing.errors import DanqingError
from danqing.gallery import files, png
from danqing.gallery.labels import Labels

TEMPORARY = "outputs/api-temp"
"""Where pictures lie that nobody asked to save, below the data folder."""

DISCARDED = 2
"""Value of `complete` for a picture that was taken away and can be brought back: no list and no door shows it."""


def folder_of(kind: str, role: str) -> str:
    """Where pictures of a request's kind lie, below the data folder: grids apart from the rest (spec 15.1)."""
    return f"outputs/{kind}-{'grids' if role == 'grid' else 'images'}"


RESERVE = """
INSERT INTO picture (id, owner, job, position, path, width, height, seed, infotext, sha256, created, temporary)
VALUES (:id, :owner, :job, :position, :path, :width, :height, :seed, :infotext, :sha256, :created, :temporary)
ON CONFLICT (job, position) DO UPDATE SET path = :path, sha256 = :sha256 WHERE complete = 0
"""

NEWEST = """
SELECT * FROM picture WHERE complete = 1 AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR created < ?2)
ORDER BY created DESC, position DESC LIMIT ?3
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A row of the index. `path` is absolute; `created` is seconds since 1970 (UTC)."""

    id: str
    owner: str
    job: str
    """"" for a picture that was found on disk without its job."""
    index: int
    path: Path
    width: int
    height: int
    seed: int
    infotext: str
    created: float
    temporary: bool


@dataclass(frozen=True, slots=True)
class NewPicture:
    """What a job hands in. `pixels`: RGB, height * width * 3 bytes, row by row."""

    owner: str
    job: str
    index: int
    pixels: bytes
    facts: ImageFacts
    infotext: str
    temporary: bool
    kind: str = "txt2img"
    """Of the request: `txt2img`, `img2img` or `extras`."""


class Gallery:
    """The pictures of one data folder. Thread-safe; `add`, `recover`, `sweep` and `rebuild` block and belong into a thread.

    `labels`: what new pictures say of who made them.
    """

    def __init__(self, data: Path, database: Database, labels: Labels | None = None) -> None:
        self.data = data
        self.labels = labels or Labels()
        self._database = database
        self._naming = threading.Lock()
        self._numbers: dict[Path, int] = {}

    @property
    def database(self) -> Database:
        """Where its index is."""
        return self._database

    def get(self, picture_id: str) -> Picture:
        """
        Raises:
            DanqingError: `unknown_picture`, also when the file was taken away by hand.
        """
        row = self._database.row("SELECT * FROM picture WHERE id = ? AND complete = 1", (picture_id,))
        if row is None or not (self.data / row["path"]).is_file():
            raise DanqingError("unknown_picture", picture=picture_id[:64])
        return self.picture_of(row)

    def pictures(self, owner: str | None, *, limit: int, before: float | None = None) -> list[Picture]:
        """Newest first; `before` (a `created`) asks for older ones."""
        return [self.picture_of(row) for row in self._database.rows(NEWEST, (owner, before, limit))]

    def of_job(self, job_id: str) -> list[Picture]:
        """A job's pictures in the order of its images."""
        rows = self._database.rows("SELECT * FROM picture WHERE job = ? AND complete = 1 ORDER BY position", (job_id,))
        return [self.picture_of(row) for row in rows]

    def picture_of(self, row: Row) -> Picture:
        """A row of the index as it is handed out."""
        return Picture(
            id=row["id"],
            owner=row["owner"],
            job=row["job"] or "",
            index=row["position"],
            path=self.data / row["path"],
            width=row["width"],
            height=row["height"],
            seed=row["seed"],
            infotext=row["infotext"],
            created=row["created"],
            temporary=bool(row["temporary"]),
        )

    def add(self, new: NewPicture) -> Picture:
        """Store a picture; a job's picture that is already there is left as it is and returned.

        Raises:
            DanqingError: `disk_full`; nothing of the picture is left on disk.
        """
        known = self._of(new.job, new.index)
        if known is not None:
            return known
        data = png.labelled(new.pixels, new.facts, new.infotext, self.labels)
        try:
            return self._store(new, data)
        except (OSError, sqlite3.OperationalError) as error:
            if files.is_full(error) or db.is_full(error):
                raise DanqingError("disk_full", free_mb=free_mb(self.data)) from error
            raise

    def _of(self, job: str, index: int) -> Picture | None:
        row = self._database.row("SELECT * FROM picture WHERE job = ? AND position = ? AND complete = 1", (job, index))
        return self.picture_of(row) if row else None

    def _store(self, new: NewPicture, data: bytes) -> Picture:
        kept = TEMPORARY if new.temporary else folder_of(new.kind, new.facts.role)
        folder = self.data / kept / datetime.now().astimezone().strftime("%Y-%m-%d")
        picture = _described(new)
        digest = hashlib.sha256(data).hexdigest()
        while True:
            picture = replace(picture, path=self._name(folder, new.facts.seed))
            try:
                self._reserve(picture, digest)
                files.write_whole(picture.path, data)
            except FileExistsError:
                continue
            except sqlite3.IntegrityError as error:
                # The name of a picture that is in the index and no longer on the disk.
                if "picture.path" not in str(error):
                    raise
                continue
            except OSError:
                self._forget(picture)
                raise
            break
        row = self._complete(picture)
        return self.picture_of(row)

    def _name(self, folder: Path, seed: int) -> Path:
        with self._naming:
            files.make_folder(folder, self.data)
            number = max(files.next_number(folder), self._numbers.get(folder, 0))
            self._numbers[folder] = number + 1
        return folder / f"{number:05d}-{seed}.png"

    def _reserve(self, picture: Picture, digest: str) -> None:
        values = {
            "id": picture.id,
            "owner": picture.owner,
            "job": picture.job,
            "position": picture.index,
            "path": str(picture.path.relative_to(self.data)),
            "width": picture.width,
            "height": picture.height,
            "seed": picture.seed,
            "infotext": picture.infotext,
            "sha256": digest,
            "created": picture.created,
            "temporary": int(picture.temporary),
        }
        self._database.write(lambda connection: connection.execute(RESERVE, values))

    def _complete(self, picture: Picture) -> Row:
        path = str(picture.path.relative_to(self.data))

        def work(connection: sqlite3.Connection) -> Row:
            connection.execute("UPDATE picture SET complete = 1 WHERE path = ?", (path,))
            row: Row = connection.execute("SELECT * FROM picture WHERE path = ?", (path,)).fetchone()
            return row

        return self._database.write(work)

    def _forget(self, picture: Picture) -> None:
        # On a full disk this may fail too; `recover` then removes the row at the next start, and a new try reuses it.
        sql, key = "DELETE FROM picture WHERE job = ? AND position = ? AND complete = 0", (picture.job, picture.index)
        with contextlib.suppress(sqlite3.OperationalError):
            self._database.write(lambda connection: connection.execute(sql, key))


def free_mb(folder: Path) -> int:
    """Megabytes that an ordinary user may still write on the folder's disk."""
    return shutil.disk_usage(folder).free // 2**20


def check_room(data: Path, reserve_mb: int) -> None:
    """Refuse jobs, and the pictures that they are to start from: nobody may fill the disk until nothing can be written.

    Raises:
        DanqingError: `disk_full`.
    """
    free = free_mb(data)
    if free < reserve_mb:
        raise DanqingError("disk_full", free_mb=free)


def _described(new: NewPicture) -> Picture:
    return Picture(
        id=secrets.token_hex(16),
        owner=new.owner,
        job=new.job,
        index=new.index,
        path=Path(),
        width=new.facts.width,
        height=new.facts.height,
        seed=new.facts.seed,
        infotext=new.infotext,
        created=time.time(),
        temporary=new.temporary,
    )
