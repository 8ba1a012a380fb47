"""Logins of browsers: a random id in a cookie; its hash, its end and where it came from in the users' file."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from dataclasses import dataclass

from danqing import database as db
from danqing.api.secret_files import write_secret as write_secret
from danqing.api.users import API, Users

LIMIT = 100
"""Sessions of one user; the oldest go first."""

AGENT_LIMIT = 200

LIVE = """
SELECT session.id, session.user FROM session JOIN user ON user.name = session.user
WHERE session.key = ? AND session.expires > ? AND user.disabled = 0 AND user.role <> 'api'
"""

NEWEST = "SELECT * FROM session WHERE user = ? AND expires > ? ORDER BY created DESC"


@dataclass(frozen=True, slots=True)
class Session:
    """A login as its owner sees it; times are seconds since 1970. `id` opens nothing."""

    id: str
    user: str
    created: float
    expires: float
    address: str
    agent: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A login for which the disk had no room. `stamp` changes with the user's password."""

    id: str
    user: str
    expires: float
    stamp: str


class Sessions:
    """Who is logged in. Safe to call from several threads.

    Args:
        users: whose file keeps them.
        seconds: how long a session lasts.
    """

    def __init__(self, users: Users, seconds: float) -> None:
        self._users = users
        self.seconds = seconds
        self._unwritten: dict[str, Unwritten] = {}
        users.on_end = self._end_unwritten

    def open(self, user: str, address: str = "", agent: str = "") -> str:
        """A new session of `user`; the token for the cookie."""
        token, now = secrets.token_urlsafe(32), time.time()
        row = (_key(token), secrets.token_hex(8), user, now, now + self.seconds, address, agent[:AGENT_LIMIT])

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM session WHERE expires <= ?", (now,))
            connection.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            old = "SELECT key FROM session WHERE user = ? ORDER BY created DESC LIMIT -1 OFFSET ?"
            connection.execute(f"DELETE FROM session WHERE key IN ({old})", (user, LIMIT))

        try:
            self._users.database.write(work)
        except sqlite3.OperationalError as error:
            if not db.is_full(error):
                raise
            # A full disk must not keep people out; they log in again after a restart.
            self._unwritten[_key(token)] = Unwritten(row[1], user, row[4], self._users.stamp(user))
        return token

    def find(self, token: str) -> tuple[str, str] | None:
        """The id and the user of the session of a cookie, None when there is none or it is over."""
        key, now = _key(token), time.time()
        row = self._users.database.row(LIVE, (key, now))
        if row is not None:
            return row["id"], row["user"]
        held = self._unwritten.get(key)
        return (held.id, held.user) if held is not None and self._holds(held, now) else None

    def _holds(self, held: Unwritten, now: float) -> bool:
        user = self._users.find(held.user)
        open_to = user is not None and not user.disabled and user.role != API
        return open_to and held.expires > now and held.stamp == self._users.stamp(held.user)

    def _end_unwritten(self, user: str) -> None:
        for key in [key for key, held in self._unwritten.items() if held.user == user]:
            self._unwritten.pop(key, None)

    def user(self, token: str) -> str | None:
        """Whose session `token` is, None when there is none or it is over."""
        found = self.find(token)
        return None if found is None else found[1]

    def of(self, user: str) -> list[Session]:
        """A user's sessions, newest first."""
        rows = self._users.database.rows(NEWEST, (user, time.time()))
        names = ("id", "user", "created", "expires", "address", "agent")
        return [Session(*(row[name] for name in names)) for row in rows]

    def close(self, token: str) -> None:
        """End a session."""
        key = _key(token)
        self._unwritten.pop(key, None)
        self._users.database.write(lambda connection: connection.execute("DELETE FROM session WHERE key = ?", (key,)))

    def revoke(self, user: str, session_id: str) -> bool:
        """End one of a user's sessions by its id; whether there was one."""
        held = [key for key, one in self._unwritten.items() if (one.user, one.id) == (user, session_id)]
        for key in held:
            self._unwritten.pop(key, None)
        sql, row = "DELETE FROM session WHERE user = ? AND id = ?", (user, session_id)
        return bool(held) or self._users.database.write(lambda connection: connection.execute(sql, row).rowcount) > 0


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
