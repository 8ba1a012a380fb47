"""Looking through somebody's pictures, taking them away and bringing them back. Everything here blocks."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence

from danqing.database import Database
from danqing.gallery.store import Gallery, Picture

FOUND = """
SELECT * FROM picture WHERE complete = 1 AND temporary = 0 AND owner = ?1 AND created < ?2
AND (?3 = '' OR infotext LIKE ?3 ESCAPE '\\') ORDER BY created DESC, position DESC LIMIT ?4
"""

GONE = 2
"""Value of `complete` for a picture that was taken away: no list and no door shows it."""

UNDO_SECONDS = 24 * 3600
"""How long it can be brought back."""


class Shelf:
    """The pictures of a gallery as their owners handle them."""

    def __init__(self, gallery: Gallery, database: Database) -> None:
        self.gallery = gallery
        self._database = database

    def search(self, owner: str, words: str, *, before: float, limit: int) -> list[Picture]:
        """Newest first, older than `before`; `words`: all must stand in the infotext, in any case."""
        pieces = [piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for piece in words.split()]
        found: list[Picture] = []
        first = f"%{pieces[0]}%" if pieces else ""
        rest = [piece.lower() for piece in words.split()[1:]]
        while len(found) < limit:
            rows = self._database.rows(FOUND, (owner, before, first, limit))
            pictures = [self.gallery.picture_of(row) for row in rows]
            found += [one for one in pictures if all(word in one.infotext.lower() for word in rest)]
            if len(rows) < limit:
                break
            before = pictures[-1].created
        return found[:limit]

    def discard(self, owner: str, ids: Sequence[str]) -> int:
        """Take pictures away, for good after a day; how many there were."""
        rows = [
            row
            for one in ids
            for row in self._database.rows(
                "SELECT * FROM picture WHERE id = ? AND owner = ? AND complete = 1", (one, owner)
            )
        ]
        for row in rows:
            self._touch(row["path"])
        self._mark([row["id"] for row in rows], GONE)
        self._purge()
        return len(rows)

    def restore(self, owner: str, ids: Sequence[str]) -> int:
        """Bring them back; how many there were."""
        rows = [
            row
            for one in ids
            for row in self._database.rows(
                "SELECT * FROM picture WHERE id = ? AND owner = ? AND complete = ?", (one, owner, GONE)
            )
        ]
        self._mark([row["id"] for row in rows], 1)
        return len(rows)

    def _touch(self, path: str) -> None:
        try:
            os.utime(self.gallery.data / path)
        except OSError:
            return

    def _mark(self, ids: Sequence[str], value: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE picture SET complete = ? WHERE id = ?", [(value, one) for one in ids])

        self._database.write(work)

    def _purge(self) -> None:
        """Files taken away more than a day ago, then their rows."""
        before, gone = time.time() - UNDO_SECONDS, list[tuple[str]]()
        for row in self._database.rows("SELECT id, path FROM picture WHERE complete = ?", (GONE,)):
            path = self.gallery.data / row["path"]
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
                    gone.append((row["id"],))
            except FileNotFoundError:
                gone.append((row["id"],))
            except OSError:
                continue
        if gone:
            self._database.write(lambda connection: connection.executemany("DELETE FROM picture WHERE id = ?", gone))
