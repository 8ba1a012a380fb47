"""Who a request comes from: a session cookie, HTTP Basic, or, where no login is asked, everybody is "local".

`Logins` is what the doors ask. Passwords are checked by an `Accounts` object, so that the one administrator of today can
give way to a table of users without a change elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import HTTPConnection

from danqing.api.backoff import Backoff
from danqing.api.sessions import Sessions, write_secret
from danqing.api.tokens import DRAW, PREFIX, SCOPES, Tokens
from danqing.errors import DanqingError
from danqing.settings import Settings

LOCAL = "local"
"""Owner of everything where no login is asked."""

ADMIN = "admin"
COOKIE = "danqing_session"
OWNER_KEY = "danqing.owner"
"""Where the guard leaves the owner in the ASGI scope."""

SCOPES_KEY = "danqing.scopes"
"""Where the guard leaves what the owner may do."""

PASSWORD_LIMIT = 1000
CHECKS_AT_ONCE = 2
"""A check takes 64 MB and a good part of a second of a core."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who a request comes from, and what they may do."""

    owner: str
    scopes: tuple[str, ...]


class Accounts(Protocol):
    """Whoever knows the passwords."""

    def check(self, name: str, password: str) -> str | None:
        """The user's name when the password is right, else None. Takes as long for a name that does not exist."""


class AdminAccount:
    """One account, `admin`, with a random password made at first start.

    `DATA/secrets/admin.hash` holds its argon2 hash; the clear password is written once, to `DATA/secrets/password`, for the
    person who may read files there. Removing both makes a new one at the next start.
    """

    def __init__(self, data: Path) -> None:
        self.password_file = data / "secrets" / "password"
        self._hash_file = data / "secrets" / "admin.hash"
        self._hasher = PasswordHasher()
        if not self._hash_file.is_file():
            self._first()
        self._hash = self._hash_file.read_text("utf-8").strip()

    def check(self, name: str, password: str) -> str | None:
        known = hmac.compare_digest(name.encode("utf-8", "replace"), ADMIN.encode())
        try:
            self._hasher.verify(self._hash, password.encode("utf-8", "replace"))
        except (VerificationError, InvalidHashError):
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
    def set_password(data: Path, password: str) -> None:
        """Give the account another password: its hash only, and every login ends at the service's next start."""
        folder = data / "secrets"
        write_secret(folder / "admin.hash", PasswordHasher().hash(password) + "\n")
        for name in ("password", "sessions.json"):
            (folder / name).unlink(missing_ok=True)


class WithMachine:
    """Other accounts, and `box`: the machine itself, which draws a first picture and asks whether anybody draws.

    Its token stands in `DATA/secrets/box.token`; `danqing box firstboot` makes it. Without that file nobody is `box`.
    """

    NAME = "box"

    def __init__(self, accounts: Accounts, data: Path) -> None:
        self._accounts = accounts
        self._file = data / "secrets" / "box.token"

    def check(self, name: str, password: str) -> str | None:
        if name != self.NAME:
            return self._accounts.check(name, password)
        try:
            token = self._file.read_bytes().strip()
        except OSError:
            return None
        given = password.encode("utf-8", "replace")
        return self.NAME if len(token) >= 32 and hmac.compare_digest(token, given) else None


class Logins:
    """Everything about logging in at one door.

    Args:
        data: the data folder.
        accounts: who knows the passwords; None where no login is asked.
        host: the address listened on.
    """

    def __init__(self, data: Path, accounts: Accounts | None, host: str, sessions: Sessions, backoff: Backoff) -> None:
        self.data, self.host = data, host
        self.sessions, self.backoff, self.tokens = sessions, backoff, Tokens(data)
        self._accounts = accounts
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._basic_turn = asyncio.Lock()

    @classmethod
    def at(cls, data: Path, settings: Settings, accounts: Accounts | None, host: str) -> Logins:
        """With sessions in the data folder and the limits of the settings."""
        sessions = Sessions(data / "secrets" / "sessions.json", settings.get_float("session_hours") * 3600)
        backoff = Backoff(settings.get_int("login_free_tries"), settings.get_int("login_wait_most"))
        return cls(data, accounts, host, sessions, backoff)

    @property
    def required(self) -> bool:
        """Whether a login is asked."""
        return self._accounts is not None

    @staticmethod
    def owner_of(connection: HTTPConnection) -> str:
        """Who sends a request that the guard let pass: a user's name, or "local"."""
        return str(connection.scope.get(OWNER_KEY, LOCAL))

    @staticmethod
    def may(connection: HTTPConnection, scope: str) -> bool:
        """Whether a request that the guard let pass may do what `scope` names. Where no login is asked everybody may."""
        return scope in connection.scope.get(SCOPES_KEY, SCOPES)

    async def visitor(self, connection: HTTPConnection) -> Visitor | None:
        """Whose login, token or session a request carries, None for none.

        Raises:
            DanqingError: `wrong_password`, `wrong_token` or `too_many_logins`.
        """
        header = connection.headers.get("authorization", "")
        address = connection.client.host if connection.client else ""
        kind, _, rest = header.partition(" ")
        if kind.lower() == "bearer":
            return self._by_token(rest.strip(), address)
        if kind.lower() == "basic":
            _, password = _basic_pair(header)
            if password.startswith(PREFIX):
                # Programs that know only Basic: any name, the token as the password.
                return self._by_token(password, address)
            return self._visitor(await self.basic(header, address))
        token = connection.cookies.get(COOKIE, "")
        user = self.sessions.user(token) if token else None
        return None if user is None else self._visitor(user)

    def _visitor(self, user: str) -> Visitor:
        return Visitor(user, SCOPES if user == ADMIN else (DRAW,))

    def _by_token(self, text: str, address: str) -> Visitor:
        self.backoff.check(address)
        token = self.tokens.find(text)
        if token is None:
            self.backoff.failed(address)
            raise DanqingError("wrong_token")
        return Visitor(token.owner, token.scopes)

    async def log_in(self, name: str, password: str, address: str) -> str:
        """The user's name.

        Raises:
            DanqingError: `wrong_password`, or `too_many_logins` for an address that has failed often.
        """
        assert self._accounts is not None
        self.backoff.check(address)
        self.backoff.failed(address)
        user = None
        if len(name) <= PASSWORD_LIMIT and len(password) <= PASSWORD_LIMIT:
            async with self._turns:
                user = await asyncio.to_thread(self._accounts.check, name, password)
        if user is None:
            log.info("login failed", address=address)
            raise DanqingError("wrong_password")
        self.backoff.succeeded(address)
        return user

    async def basic(self, header: str, address: str) -> str:
        """The user of an `Authorization: Basic` header. A pair that was right once is remembered as a keyed hash.

        Raises:
            DanqingError: as `log_in`.
        """
        name, password = _basic_pair(header)
        key = hmac.digest(
            self._key, hashlib.sha256(f"{name}\0{password}".encode("utf-8", "replace")).digest(), "sha256"
        )
        # Also for a pair that is remembered: an address that has to wait must not learn that a guess was right.
        self.backoff.check(address)
        if key in self._known:
            return self._known[key]
        # One at a time: a program's first sixteen requests at once must not count as fifteen failures.
        async with self._basic_turn:
            if key in self._known:
                return self._known[key]
            user = await self.log_in(name, password, address)
            self._known[key] = user
            while len(self._known) > 1000:
                self._known.popitem(last=False)
        return user


def _basic_pair(header: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(header[len("basic ") :].strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise DanqingError("wrong_password") from None
    name, _, password = text.partition(":")
    return name, password
