"""The first administrator: a user whose password's hash stands in a file of its own, where a box makes, saves and restores it."""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from danqing.api.secret_files import alone, write_secret

ADMIN = "admin"

log = structlog.get_logger(__name__)


class AdminAccount:
    """The account `admin`, with a random password made at first start.

    `DATA/secrets/admin.hash` holds its argon2 hash; the clear password is written once, to `DATA/secrets/password`, for the
    person who may read files there. Removing both makes a new one at the next start.
    """

    def __init__(self, data: Path) -> None:
        self.password_file = data / "secrets" / "password"
        self._hash_file = data / "secrets" / "admin.hash"
        self._hasher = PasswordHasher()
        if not self._hash_file.is_file():
            with alone(self._hash_file.parent):
                # Somebody who starts at the same moment must not leave the text of one password and the hash of another.
                if not self._hash_file.is_file():
                    self._first()

    def check(self, name: str, password: str) -> str | None:
        """`admin` when both are right. The file is read each time: another password holds at once."""
        known = hmac.compare_digest(name.encode("utf-8", "replace"), ADMIN.encode())
        try:
            hashed = self._hash_file.read_text("utf-8").strip()
            self._hasher.verify(hashed, password.encode("utf-8", "replace"))
        except (OSError, VerificationError, InvalidHashError):
            return None
        return ADMIN if known else None

    def _first(self) -> None:
        password = secrets.token_urlsafe(18)
        write_secret(self.password_file, password + "\n")
        write_secret(self._hash_file, self._hasher.hash(password) + "\n")
        log.warning("a password was made for the user admin", file=str(self.password_file))

    @staticmethod
    def exists(data: Path) -> bool:
        """Whether there is a password already."""
        return (data / "secrets" / "admin.hash").is_file()

    @staticmethod
    def stamp(data: Path) -> str:
        """A text that changes with the password."""
        try:
            told = (data / "secrets" / "admin.hash").stat()
        except OSError:
            return ""
        return f"{told.st_mtime_ns}-{told.st_ino}"

    @staticmethod
    def set_password(data: Path, password: str) -> None:
        """Give the account another password: its hash only. Every login of the administrator ends."""
        folder = data / "secrets"
        write_secret(folder / "admin.hash", PasswordHasher().hash(password) + "\n")
        for name in ("password", "sessions.json"):
            (folder / name).unlink(missing_ok=True)
        if (folder / "users.db").is_file():
            with closing(sqlite3.connect(folder / "users.db", timeout=10)) as connection:
                connection.execute("DELETE FROM session WHERE user = ?", (ADMIN,))
                connection.commit()
