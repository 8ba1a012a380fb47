"""People and programs that may log in: names, roles, passwords, limits. `DATA/secrets/users.db`, made at first need.

Several processes may use the file at once: what `danqing user` changes holds in a running server with the next request.
Everything here blocks, a read for some microseconds; passwords take a good part of a second and belong into a thread.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from danqing.api.admin_account import ADMIN, AdminAccount
from danqing.api.secret_files import hand_over, make_folder
from danqing.api.tokens import ADMIN as STEER
from danqing.api.tokens import DRAW, METRICS, READ, TRAIN
from danqing.database import Database, Row, SqlValue
from danqing.errors import DanqingError

T = TypeVar("T")

ARTIST, API = "artist", "api"

ROLES: Mapping[str, tuple[str, ...]] = {
    ADMIN: (READ, DRAW, TRAIN, METRICS, STEER),
    ARTIST: (READ, DRAW, TRAIN),
    API: (READ, DRAW, TRAIN),
}
"""Scopes by role. `api` is for programs: HTTP Basic and tokens, no page."""

RESERVED = frozenset({"local", "box"})
"""Who draws where no login is asked, and the machine itself."""

NAME = re.compile(r"[\w][\w.@-]{0,63}")
PASSWORD_LEAST, PASSWORD_MOST = 10, 1000
MIGRATIONS = Path(__file__).with_name("migrations")
LIMITS = ("jobs", "images", "weight")
MOST_JOBS, MOST_WEIGHT = 10**6, 100.0


@dataclass(frozen=True, slots=True)
class User:
    """A row. `jobs`: most that may wait or run at once; `images`: most pictures in a job; `weight`: share of the work, 1 is the
    usual one. None leaves each to the settings. `created`: seconds since 1970."""

    name: str
    role: str
    disabled: bool
    created: float
    subject: str | None = None
    jobs: int | None = None
    images: int | None = None
    weight: float | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """What the role opens."""
        return ROLES[self.role]


class Users:
    """The users of one data folder. Safe to call from several threads.

    Where the login's own password is made is `AdminAccount`'s business: `check` asks it for `admin`.
    """

    def __init__(self, data: Path) -> None:
        self._folder = data / "secrets"
        self._opening = threading.Lock()
        self._database: Database | None = None
        self._hasher = PasswordHasher()
        self._nobody = ""
        self.on_end: Callable[[str], None] = lambda name: None
        """Told, in this process, that a user is logged out everywhere."""

    @property
    def database(self) -> Database:
        """The open file; made, and the sessions of an earlier version taken over, when it is first asked for.

        Raises:
            DanqingError: `data_newer`, `data_broken`, `disk_full`, `cannot_write`.
        """
        with self._opening:
            if self._database is None:
                path = self._folder / "users.db"
                make_folder(self._folder)
                self._database = Database.open(path, MIGRATIONS)
                for file in (path, *self._folder.glob(path.name + "-*")):
                    hand_over(file)
                _take_over_sessions(self._database, self._folder / "sessions.json")
            return self._database

    def close(self) -> None:
        """Let the file go."""
        with self._opening:
            if self._database is not None:
                self._database.close()
                self._database = None

    def find(self, name: str) -> User | None:
        """The user of that name; one that was removed is there as one that is shut out."""
        row = self.database.row("SELECT * FROM user WHERE name = ?", (name,))
        return None if row is None else _user(row)

    def get(self, name: str) -> User:
        """
        Raises:
            DanqingError: `unknown_user`.
        """
        row = self.database.row("SELECT * FROM user WHERE name = ? AND removed IS NULL", (name,))
        if row is None:
            raise DanqingError("unknown_user", name=name[:64])
        return _user(row)

    def all(self) -> list[User]:
        """By name."""
        return [_user(row) for row in self.database.rows("SELECT * FROM user WHERE removed IS NULL ORDER BY name")]

    def add(self, name: str, role: str = ARTIST, password: str | None = None, subject: str | None = None) -> User:
        """A new user; without a password nobody gets in by one.

        Raises:
            DanqingError: `user_exists`, `weak_password`, `invalid_field`.
        """
        name = plain(name)
        _check_role(role)
        hashed = "" if password is None else self._hashed(password)
        sql = "INSERT INTO user (name, role, hash, created, subject) VALUES (?, ?, ?, ?, ?)"
        try:
            self.database.write(lambda connection: connection.execute(sql, (name, role, hashed, time.time(), subject)))
        except sqlite3.IntegrityError:
            raise DanqingError("user_exists", name=name) from None
        return self.get(name)

    def set_role(self, name: str, role: str) -> None:
        """
        Raises:
            DanqingError: `unknown_user`, `invalid_field`, `last_admin`.
        """
        _check_role(role)
        self._change(name, "role", role)

    def disable(self, name: str, disabled: bool = True) -> None:
        """Keep a user out, with all sessions and tokens, or let them in again (their sessions have ended).

        Raises:
            DanqingError: `unknown_user`, `last_admin`.
        """
        self.on_end(name)
        self._change(name, "disabled", int(disabled))

    def remove(self, name: str) -> None:
        """Take a user away for good, with all sessions. Nobody gets the name again: pictures are known by it.

        Raises:
            DanqingError: `unknown_user`, `last_admin`; `invalid_field` for `admin`, which a box cannot be without.
        """
        if name == ADMIN:
            raise DanqingError("invalid_field", field="name", reason="admin stays; it can be shut out")
        self._change(name, "disabled", 1)
        sql = "UPDATE user SET removed = ?, hash = '', subject = NULL WHERE name = ?"
        self.database.write(lambda connection: connection.execute(sql, (time.time(), name)))

    def removed(self) -> list[str]:
        """Names that were taken away, in this process or another one."""
        return [row["name"] for row in self.database.rows("SELECT name FROM user WHERE removed IS NOT NULL")]

    def limit(self, name: str, limits: Mapping[str, int | float | None]) -> None:
        """Set limits by their names in `LIMITS`; None is the settings' own.

        Raises:
            DanqingError: `unknown_user`, `invalid_field`, `out_of_range`.
        """
        for field, value in limits.items():
            _check_limit(field, value)
        for field, value in limits.items():
            self._change(name, field, value)

    def set_password(self, name: str, password: str) -> None:
        """Give another password; every session of that user ends.

        Raises:
            DanqingError: `unknown_user`, `weak_password`.
        """
        hashed = self._hashed(password)
        if self.get(name).name == ADMIN:
            # Where a box looks for it, and where `danqing box password --reset` writes.
            AdminAccount.set_password(self._folder.parent, password)
            hand_over(self._folder / "admin.hash")
        else:
            self._change(name, "hash", hashed)
        self.end_sessions(name)

    def end_sessions(self, name: str) -> None:
        """Log a user out everywhere."""
        self.on_end(name)
        self.database.write(lambda connection: connection.execute("DELETE FROM session WHERE user = ?", (name,)))

    def by_subject(self, subject: str) -> User | None:
        """Who comes through OIDC under that "issuer subject"."""
        row = self.database.row("SELECT * FROM user WHERE subject = ?", (subject,))
        return None if row is None else _user(row)

    def check(self, name: str, password: str) -> str | None:
        """The name when the password is right and the user may come in. Takes as long for a name that does not exist."""
        name = one_form(name)
        row = self.database.row("SELECT * FROM user WHERE name = ?", (name,))
        if name == ADMIN:
            data = self._folder.parent
            known = AdminAccount.exists(data) and AdminAccount(data).check(name, password) is not None
            return name if known and row is not None and not row["disabled"] else None
        # Made whoever comes first: the first name that is none must not take longer than one that is.
        decoy, hashed = self._decoy(), "" if row is None else row["hash"]
        right = self._verified(hashed or decoy, password)
        return name if row is not None and hashed and right and not row["disabled"] else None

    def stamp(self, name: str) -> str:
        """A text that changes with a user's password; "" for nobody."""
        name = one_form(name)
        if name == ADMIN:
            return AdminAccount.stamp(self._folder.parent)
        row = self.database.row("SELECT hash FROM user WHERE name = ?", (name,))
        return "" if row is None else str(row["hash"])

    def _verified(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password.encode("utf-8", "replace"))
        except (VerificationError, InvalidHashError):
            return False

    def _decoy(self) -> str:
        self._nobody = self._nobody or self._hasher.hash(secrets.token_hex(16))
        return self._nobody

    def _hashed(self, password: str) -> str:
        check_password(password)
        return self._hasher.hash(password.encode("utf-8", "replace"))

    def _change(self, name: str, column: str, value: SqlValue) -> None:
        def work(connection: sqlite3.Connection) -> int:
            count = connection.execute(
                f"UPDATE user SET {column} = ? WHERE name = ? AND removed IS NULL", (value, name)
            ).rowcount
            if column == "disabled":
                connection.execute("DELETE FROM session WHERE user = ?", (name,))
            if column in ("role", "disabled") and not connection.execute(LEFT).fetchone()[0]:
                raise DanqingError("last_admin")
            return count

        if self.database.write(work) == 0:
            raise DanqingError("unknown_user", name=name[:64])


LEFT = "SELECT count(*) FROM user WHERE role = 'admin' AND disabled = 0"
"""Administrators who could still mend what somebody did."""


def check_password(password: str) -> None:
    """
    Raises:
        DanqingError: `weak_password`, `text_too_long`.
    """
    if len(password) < PASSWORD_LEAST:
        raise DanqingError("weak_password", least=PASSWORD_LEAST)
    if len(password) > PASSWORD_MOST:
        raise DanqingError("text_too_long", field="password", length=len(password), maximum=PASSWORD_MOST)


def plain(name: str) -> str:
    """A name as it is kept: in lower case, in one Unicode form.

    Raises:
        DanqingError: `invalid_field`.
    """
    found = one_form(name)
    if NAME.fullmatch(found) is None or found in RESERVED:
        raise DanqingError("invalid_field", field="name", reason="1 to 64 letters, digits, . _ @ -; not local or box")
    return found


def one_form(name: str) -> str:
    """What a user may have typed, as names are kept; it need not be a name."""
    return unicodedata.normalize("NFKC", name).strip().lower()


def told(user: User) -> dict[str, Any]:
    """A user as JSON."""
    return {
        "name": user.name,
        "role": user.role,
        "disabled": user.disabled,
        "created": user.created,
        "oidc": user.subject is not None,
        **{field: getattr(user, field) for field in LIMITS},
    }


def _user(row: Row) -> User:
    names = ("name", "role", "created", "subject", *LIMITS)
    return User(disabled=bool(row["disabled"]), **{name: row[name] for name in names})


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise DanqingError("invalid_field", field="role", reason="one of " + ", ".join(ROLES))


def _check_limit(field: str, value: int | float | None) -> None:
    if field not in LIMITS:
        raise DanqingError("invalid_field", field=field[:60], reason="one of " + ", ".join(LIMITS))
    if value is None:
        return
    low, high = (0.01, MOST_WEIGHT) if field == "weight" else (0, MOST_JOBS)
    if field != "weight" and value != int(value):
        raise DanqingError("not_whole", field=field, value=value)
    if not low <= value <= high:
        raise DanqingError("out_of_range", field=field, value=value, minimum=low, maximum=high)


def _take_over_sessions(database: Database, old: Path) -> None:
    """Sessions of an earlier version, which kept them in a file: nobody is logged out. The file stays as `sessions.json.bak`."""
    try:
        rows = json.loads(old.read_text("utf-8"))
        found = [(str(key), str(user), float(end)) for key, (user, end) in rows.items()]
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, AttributeError):
        found = []
    now = time.time()

    def work(connection: sqlite3.Connection) -> None:
        for key, user, end in found:
            connection.execute(
                "INSERT OR IGNORE INTO session SELECT ?, ?, name, ?, ?, '', '' FROM user WHERE name = ? AND ? > ?",
                (key, secrets.token_hex(8), now, end, user, end, now),
            )

    database.write(work)
    _written(lambda: old.replace(old.with_name(old.name + ".bak")))


def _written(act: Callable[[], T]) -> T | None:
    """A data folder that cannot be written to is told of elsewhere."""
    try:
        return act()
    except OSError:
        return None
