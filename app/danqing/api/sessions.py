"""Logins of browsers: a random id in a cookie, its hash and its end in a file, so that a restart logs nobody out."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from pathlib import Path

LIMIT = 10_000
"""Sessions kept; the oldest go first."""


def write_secret(path: Path, content: str) -> None:
    """Replace `path` whole, readable by its owner only; its folder is made if it is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


class Sessions:
    """Who is logged in. Safe to call from several threads.

    Args:
        path: the file that keeps them.
        seconds: how long a session lasts.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self.seconds = seconds
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[str, float]] = self._read()

    def open(self, user: str) -> str:
        """A new session of `user`; the token for the cookie."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = time.time()
            live = [(key, row) for key, row in self._rows.items() if row[1] > now]
            self._rows = dict(live[-(LIMIT - 1) :])
            self._rows[_key(token)] = (user, now + self.seconds)
            self._write()
        return token

    def user(self, token: str) -> str | None:
        """Whose session `token` is, None when there is none or it is over."""
        row = self._rows.get(_key(token))
        return row[0] if row is not None and row[1] > time.time() else None

    def close(self, token: str) -> None:
        """End a session."""
        with self._lock:
            if self._rows.pop(_key(token), None) is not None:
                self._write()

    def _read(self) -> dict[str, tuple[str, float]]:
        try:
            rows = json.loads(self._path.read_text("utf-8"))
            return {str(key): (str(user), float(end)) for key, (user, end) in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        try:
            write_secret(self._path, json.dumps(self._rows))
        except OSError:
            # A full disk must not keep people out; they log in again after a restart.
            return


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
