"""Looking through somebody's pictures, taking them away and bringing them back. Everything here blocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence

from danqing.database import Database, SqlValue
from danqing.gallery.store import DISCARDED, Gallery, Picture

MOST_WORDS = 20

FOUND = """
SELECT * FROM picture WHERE complete = 1 AND temporary = 0 AND owner = ? AND created >= ? AND created < ? {words}
ORDER BY created DESC, position DESC LIMIT ?
"""
"""By the index of owner and time, so that only this owner's texts are read."""

FAVOURITE = "AND id IN (SELECT picture FROM favourite WHERE favourite.owner = picture.owner)"


class Shelf:
    """The pictures of a gallery as their owners handle them. `upkeep.empty_trash` ends what was discarded."""

    def __init__(self, gallery: Gallery, database: Database) -> None:
        self.gallery = gallery
        self._database = database

    def search(
        self,
        owner: str,
        words: str,
        *,
        before: float,
        limit: int,
        since: float = 0.0,
        model: str = "",
        favourites: bool = False,
    ) -> list[Picture]:
        """Newest first, made from `since` on and before `before` (seconds since 1970).

        `words`: all must stand in the infotext, in any case (of ASCII letters). `model`: with what its name or hash begins.
        """
        patterns = [f"%{_escaped(word)}%" for word in words.split()[:MOST_WORDS]]
        clause = "AND infotext LIKE ? ESCAPE '\\' " * len(patterns)
        if model:
            clause += "AND (infotext LIKE ? ESCAPE '\\' OR infotext LIKE ? ESCAPE '\\') "
            patterns += [f"%, Model: {_escaped(model)}%", f"%, Model hash: {_escaped(model)}%"]
        if favourites:
            clause += FAVOURITE
        values: list[SqlValue] = [owner, since, before, *patterns, limit]
        return [self.gallery.picture_of(row) for row in self._database.rows(FOUND.format(words=clause), values)]

    def discard(self, owner: str, ids: Sequence[str]) -> int:
        """Take one's pictures away, for good after `trash_days`; how many there were."""
        return self._move(owner, ids, 1, DISCARDED)

    def restore(self, owner: str, ids: Sequence[str]) -> int:
        """Bring them back; how many there were."""
        return self._move(owner, ids, DISCARDED, 1)

    def _move(self, owner: str, ids: Sequence[str], old: int, new: int) -> int:
        def work(connection: sqlite3.Connection) -> list[str]:
            sql = "UPDATE picture SET complete = ? WHERE id = ? AND owner = ? AND complete = ? RETURNING path"
            found = (connection.execute(sql, (new, one, owner, old)).fetchone() for one in dict.fromkeys(ids))
            return [row["path"] for row in found if row]

        paths = self._database.write(work)
        if new == DISCARDED:
            for path in paths:
                with contextlib.suppress(OSError):
                    os.utime(self.gallery.data / path)
        return len(paths)


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
