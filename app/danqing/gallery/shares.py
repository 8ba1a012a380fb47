"""Favourites, and links by which somebody without a login sees one picture for a while. Everything here blocks."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time

from danqing.database import Database
from danqing.errors import DanqingError
from danqing.gallery.store import Gallery, Picture


class Shares:
    """Of one gallery."""

    def __init__(self, gallery: Gallery, database: Database) -> None:
        self._gallery, self._database = gallery, database

    def like(self, owner: str, picture_id: str, liked: bool = True) -> None:
        """Make a picture of one's own a favourite, which retention keeps, or no longer.

        Raises:
            DanqingError: `unknown_picture`.
        """
        self._own(owner, picture_id)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM favourite WHERE owner = ? AND picture = ?", (owner, picture_id))
            if liked:
                connection.execute("INSERT INTO favourite VALUES (?, ?, ?)", (owner, picture_id, time.time()))

        self._database.write(work)

    def favourites(self, owner: str) -> set[str]:
        """Ids of an owner's favourites."""
        return {
            row["picture"] for row in self._database.rows("SELECT picture FROM favourite WHERE owner = ?", (owner,))
        }

    def share(self, owner: str, picture_id: str, seconds: float) -> str:
        """A secret by which `shared` gives the picture for so many seconds.

        Raises:
            DanqingError: `unknown_picture`.
        """
        self._own(owner, picture_id)
        token, now = secrets.token_urlsafe(24), time.time()
        row = (_hashed(token), owner, picture_id, now, now + seconds)
        self._database.write(lambda connection: connection.execute("INSERT INTO share VALUES (?, ?, ?, ?, ?)", row))
        return token

    def shared(self, token: str, now: float | None = None) -> Picture:
        """
        Raises:
            DanqingError: `unknown_picture`, also when the link has expired or was taken back.
        """
        at = time.time() if now is None else now
        row = self._database.row("SELECT picture FROM share WHERE token = ? AND expires > ?", (_hashed(token), at))
        if row is None:
            raise DanqingError("unknown_picture", picture="")
        return self._gallery.get(row["picture"])

    def take_back(self, owner: str, picture_id: str) -> None:
        """End every link to a picture of one's own.

        Raises:
            DanqingError: `unknown_picture`.
        """
        self._own(owner, picture_id)
        sql, key = "DELETE FROM share WHERE owner = ? AND picture = ?", (owner, picture_id)
        self._database.write(lambda connection: connection.execute(sql, key))

    def _own(self, owner: str, picture_id: str) -> None:
        if self._gallery.get(picture_id).owner != owner:
            raise DanqingError("unknown_picture", picture=picture_id[:64])


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
