"""Who a request comes from: a session cookie, HTTP Basic, a token, or, where no login is asked, everybody is "local".

`Logins` is what the doors ask. Passwords are checked by an `Accounts` object; roles and sessions stand in `Users`.
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
from starlette.requests import HTTPConnection

from danqing.api.admin_account import ADMIN as ADMIN
from danqing.api.admin_account import AdminAccount as AdminAccount
from danqing.api.backoff import Backoff
from danqing.api.sessions import Sessions
from danqing.api.tokens import DRAW, METRICS, PREFIX, READ, SCOPES, Tokens
from danqing.api.users import API, User, Users, one_form
from danqing.errors import DanqingError
from danqing.settings import Settings

LOCAL = "local"
"""Owner of everything where no login is asked."""

COOKIE = "danqing_session"
OWNER_KEY = "danqing.owner"
"""Where the guard leaves the owner in the ASGI scope."""

SCOPES_KEY = "danqing.scopes"
"""Where the guard leaves what the owner may do."""

VISITOR_KEY = "danqing.visitor"
"""Where the guard leaves the whole `Visitor`."""

PASSWORD_LIMIT = 1000
CHECKS_AT_ONCE = 2
"""A check takes 64 MB and a good part of a second of a core."""

NAME_PATIENCE = 4
"""Times as many failures for a name as for an address, before everybody who tries it has to wait."""

FRIENDS = 10_000
"""Pairs of user and address remembered."""

TRIED = 1000
"""Names remembered with the addresses that failed to log in as them, and of each name `TRIED_FROM` addresses."""
TRIED_FROM = 16

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who a request comes from, and what they may do."""

    owner: str
    scopes: tuple[str, ...]
    page: bool = False
    """Whether the page is open to them, not only the API."""
    way: str = "token"
    """`session`, `basic` or `token`."""
    session: str = ""
    """The id of the session."""


class Accounts(Protocol):
    """Whoever knows the passwords."""

    def check(self, name: str, password: str) -> str | None:
        """The user's name when the password is right, else None. Takes as long for a name that does not exist."""


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

    def __init__(
        self, data: Path, accounts: Accounts | None, host: str, users: Users, sessions: Sessions, backoff: Backoff
    ) -> None:
        self.data, self.host, self.users = data, host, users
        self.sessions, self.backoff, self.tokens = sessions, backoff, Tokens(data)
        self._accounts = accounts
        self._names = Backoff(backoff.free * NAME_PATIENCE, backoff.most)
        self._friends: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._tried: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._known: OrderedDict[bytes, str] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._basic_turn = asyncio.Lock()

    @classmethod
    def at(
        cls, data: Path, settings: Settings, accounts: Accounts | None, host: str, users: Users | None = None
    ) -> Logins:
        """With sessions in the data folder and the limits of the settings."""
        users = users or Users(data)
        sessions = Sessions(users, settings.get_float("session_hours") * 3600)
        backoff = Backoff(settings.get_int("login_free_tries"), settings.get_int("login_wait_most"))
        return cls(data, accounts, host, users, sessions, backoff)

    @property
    def required(self) -> bool:
        """Whether a login is asked."""
        return self._accounts is not None

    @staticmethod
    def owner_of(connection: HTTPConnection) -> str:
        """Who sends a request that the guard let pass: a user's name, or "local"."""
        return str(connection.scope.get(OWNER_KEY, LOCAL))

    @staticmethod
    def visitor_of(connection: HTTPConnection) -> Visitor | None:
        """Who sends a request that the guard let pass; None where no login is asked."""
        found = connection.scope.get(VISITOR_KEY)
        return found if isinstance(found, Visitor) else None

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
            return self._visitor(await self.basic(header, address), "basic")
        session = self.sessions.find(connection.cookies.get(COOKIE, "")) if COOKIE in connection.cookies else None
        return None if session is None else self._visitor(session[1], "session", session[0])

    def still(self, visitor: Visitor, connection: HTTPConnection) -> bool:
        """Whether what let a visitor in would do so now: for answers that last. Counts as no try."""
        if visitor.way == "session":
            return self.sessions.find(connection.cookies.get(COOKIE, "")) is not None
        user = self.users.find(visitor.owner)
        if user is not None and user.disabled:
            return False
        header = connection.headers.get("authorization", "")
        if visitor.way == "basic":
            return self._pair_key(*_basic_pair(header)) in self._known
        text = header.partition(" ")[2].strip() if header[:6].lower() == "bearer" else _basic_pair(header)[1]
        return self.tokens.find(text) is not None

    def _visitor(self, name: str, way: str, session: str = "") -> Visitor:
        """
        Raises:
            DanqingError: `wrong_password`, for somebody who was shut out after the password was remembered.
        """
        if name == WithMachine.NAME:
            return Visitor(name, (READ, DRAW, METRICS), way=way)
        user = self.users.find(name)
        if user is None or user.disabled:
            raise DanqingError("wrong_password")
        return Visitor(name, user.scopes, user.role != API, way, session)

    def _by_token(self, text: str, address: str) -> Visitor:
        self.backoff.check(address)
        token = self.tokens.find(text)
        user = None if token is None else self.users.find(token.owner)
        if token is None or (user is not None and user.disabled):
            self.backoff.failed(address)
            raise DanqingError("wrong_token")
        # A token never opens more than its owner may; one whose owner is no user is a program of its own.
        return Visitor(token.owner, _within(token.opens, user))

    async def log_in(self, name: str, password: str, address: str) -> str:
        """The user's name.

        Raises:
            DanqingError: `wrong_password`, or `too_many_logins` for an address that has failed often.
        """
        assert self._accounts is not None
        self.backoff.check(address)
        # As accounts are kept: other letters for the same name must not be other tries.
        known = one_form(name[:PASSWORD_LIMIT])
        # Many addresses that guess at one name wait too; where the user has been before, nobody else's guesses count.
        if (known, address) not in self._friends:
            self._names.check(known)
        self.backoff.failed(address)
        user = None
        if len(name) <= PASSWORD_LIMIT and len(password) <= PASSWORD_LIMIT:
            async with self._turns:
                user = await asyncio.to_thread(self._accounts.check, name, password)
        if user is None:
            self._names.failed(known)
            self._note(known, address)
            log.info("login failed", address=address)
            raise DanqingError("wrong_password")
        self.succeeded(known, address)
        return user

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of an address and of a name."""
        self.backoff.succeeded(address)
        self._names.succeeded(name)
        self._tried.pop(name, None)
        self._friends[name, address] = None
        while len(self._friends) > FRIENDS:
            self._friends.popitem(last=False)

    def _note(self, name: str, address: str) -> None:
        """Remember from where a name was tried, for who may help its owner."""
        places = self._tried.setdefault(name, OrderedDict())
        places[address] = None
        self._tried.move_to_end(name)
        for rows, most in ((places, TRIED_FROM), (self._tried, TRIED)):
            while len(rows) > most:
                rows.popitem(last=False)

    def failures(self, name: str) -> tuple[int, int]:
        """Wrong passwords of a name since its last login, and the seconds that it, or an address that tried it, has to wait."""
        count, wait = self._names.failures(name)
        waits = (self.backoff.failures(address)[1] for address in tuple(self._tried.get(name, ())))
        return count, max(wait, *waits, 0)

    def pardon(self, name: str) -> None:
        """Forget a name's failures, and those of the addresses that tried it."""
        self._names.succeeded(name)
        for address in self._tried.pop(name, ()):
            self.backoff.succeeded(address)

    def form_secret(self, cookie: str) -> str:
        """What a form brings back to show that this server made it for the browser with that cookie."""
        return hmac.new(self._key, b"form:" + cookie.encode("utf-8", "replace"), "sha256").hexdigest()

    def is_form_secret(self, given: str, cookie: str) -> bool:
        """Whether it is what `form_secret` gave."""
        return bool(cookie) and hmac.compare_digest(given.encode("utf-8", "replace"), self.form_secret(cookie).encode())

    async def basic(self, header: str, address: str) -> str:
        """The user of an `Authorization: Basic` header. A pair that was right once is remembered as a keyed hash.

        Raises:
            DanqingError: as `log_in`.
        """
        name, password = _basic_pair(header)
        key = self._pair_key(name, password)
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

    def _pair_key(self, name: str, password: str) -> bytes:
        """Under what a pair is remembered that was right."""
        # With what tells one password of the user from the next: an old one is not remembered for longer than it holds.
        pair = f"{self._stamp(name)}\0{name}\0{password}".encode("utf-8", "replace")
        return hmac.digest(self._key, hashlib.sha256(pair).digest(), "sha256")

    def _stamp(self, name: str) -> str:
        """Changes with the user's password."""
        if name == WithMachine.NAME:
            return ""
        return self.users.stamp(name)


def _within(scopes: tuple[str, ...], user: User | None) -> tuple[str, ...]:
    return scopes if user is None else tuple(scope for scope in scopes if scope in user.scopes)


def _basic_pair(header: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(header[len("basic ") :].strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise DanqingError("wrong_password") from None
    name, _, password = text.partition(":")
    return name, password
