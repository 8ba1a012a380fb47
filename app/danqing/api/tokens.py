"""Bearer tokens of programs: made, listed and revoked with `danqing token`; only their hashes are kept.

A token reads `dq_ID_SECRET`. The ID finds its row in `DATA/secrets/tokens.json`; the secret has 256 random bits, so that a plain
SHA-256 is enough. The file is read again when it has changed: a token that is revoked stops working at once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from danqing.api.secret_files import alone, hand_over, write_secret
from danqing.errors import DanqingError

READ, DRAW, TRAIN, METRICS, ADMIN = "read", "draw", "train", "metrics", "admin"
SCOPES = (READ, DRAW, TRAIN, METRICS, ADMIN)
"""What a token may do: look at what was drawn; that and draw; that and train; read /metrics and nothing else; everything."""

IMPLIED = {READ: (READ,), DRAW: (READ, DRAW), TRAIN: (READ, DRAW, TRAIN), METRICS: (METRICS,), ADMIN: SCOPES}
"""What each scope opens."""

PREFIX = "dq_"
FORM = re.compile(r"dq_([0-9a-f]{12})_([A-Za-z0-9_-]{20,100})")
NAME_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Token:
    """A row. `owner`: whose jobs and pictures they are; `created`: seconds since 1970."""

    id: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    created: float
    digest: str

    @property
    def opens(self) -> tuple[str, ...]:
        """The scopes with those that they imply."""
        return tuple(scope for scope in SCOPES if any(scope in IMPLIED[one] for one in self.scopes if one in IMPLIED))


class Tokens:
    """The tokens of one data folder. Safe to call from several threads."""

    def __init__(self, data: Path) -> None:
        self._path = data / "secrets" / "tokens.json"
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._rows: dict[str, Token] = {}

    def new(self, name: str, scopes: Iterable[str], owner: str = ADMIN) -> tuple[str, Token]:
        """Make a token; its text, which is not kept, and its row.

        Raises:
            DanqingError: `invalid_field`, for a scope that there is not or a name that is too long; `cannot_write`.
        """
        wanted = tuple(dict.fromkeys(scopes))
        if not wanted or any(scope not in SCOPES for scope in wanted):
            raise DanqingError("invalid_field", field="scope", reason="one of " + ", ".join(SCOPES))
        if len(name) > NAME_LIMIT or not name.isprintable():
            raise DanqingError("invalid_field", field="name", reason=f"at most {NAME_LIMIT} printable characters")
        secret = secrets.token_urlsafe(32)
        row = Token(secrets.token_hex(6), name, owner, wanted, time.time(), _digest(secret))
        with self._lock, alone(self._path.parent):
            self._read()
            self._rows[row.id] = row
            self._write()
        return f"{PREFIX}{row.id}_{secret}", row

    def all(self) -> list[Token]:
        """Oldest first."""
        with self._lock:
            self._read()
            return sorted(self._rows.values(), key=lambda row: row.created)

    def of(self, owner: str) -> list[Token]:
        """Of one owner, oldest first."""
        return [row for row in self.all() if row.owner == owner]

    def revoke(self, token_id: str, owner: str | None = None) -> None:
        """End a token; with `owner` only one of theirs.

        Raises:
            DanqingError: `unknown_token`, `cannot_write`.
        """
        with self._lock, alone(self._path.parent):
            self._read()
            row = self._rows.get(token_id)
            if row is None or owner not in (None, row.owner) or self._rows.pop(token_id, None) is None:
                raise DanqingError("unknown_token", token=token_id[:64])
            self._write()

    def find(self, text: str) -> Token | None:
        """The token of that text, None when there is none."""
        match = FORM.fullmatch(text)
        if match is None:
            return None
        with self._lock:
            self._read()
            row = self._rows.get(match[1])
        return row if row is not None and hmac.compare_digest(row.digest, _digest(match[2])) else None

    def _read(self) -> None:
        try:
            told = self._path.stat()
        except OSError:
            self._rows, self._seen = {}, None
            return
        # A file that is replaced has another inode, also within one tick of the clock.
        stamp = (told.st_mtime_ns, told.st_ino)
        if stamp == self._seen:
            return
        try:
            rows = json.loads(self._path.read_text("utf-8"))
            found = [Token(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]
        except (OSError, ValueError, TypeError, KeyError):
            # What cannot be read lets nobody in.
            found = []
        self._rows, self._seen = {row.id: row for row in found}, stamp

    def _write(self) -> None:
        try:
            write_secret(self._path, json.dumps([asdict(row) for row in self._rows.values()]))
            hand_over(self._path)
        except OSError as error:
            # What is on disk counts: it is read again.
            raise DanqingError("cannot_write", path=str(self._path), reason=error.strerror or str(error)) from None
        finally:
            self._seen = None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
