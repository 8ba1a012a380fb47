"""/v1/account and /v1/tokens: what people do with their own login. Tokens cannot: a leaked one must not make another."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.api.auth import COOKIE
from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.api.fields import example
from danqing.api.tokens import DRAW, Token
from danqing.api.users import told as user_told
from danqing.errors import DanqingError

SessionId = Annotated[str, Path(description="The id that GET /v1/account lists.")]
TokenId = Annotated[str, Path(description="The id that GET /v1/tokens lists.")]


class PasswordChange(BaseModel):
    """Body of POST /v1/account/password."""

    model_config = example({"old": "correct horse battery", "new": "staple correct horse"})

    old: Annotated[str, Field(max_length=1000)]
    new: Annotated[str, Field(max_length=1000)]


class TokenWish(BaseModel):
    """Body of POST /v1/tokens."""

    model_config = example({"name": "my bot", "scopes": ["draw"]})

    name: str
    scopes: list[str] = [DRAW]


class Account:
    """Everybody's own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._logins = context.logins

    def _name(self, request: Request) -> str:
        return self._context.require_person(request)

    async def show(self, request: Request) -> Response:
        """The caller's name, role, limits and logins. `csrf` is for X-CSRF-Token, which very old browsers need to send."""
        name = self._name(request)
        return SafeJson(await asyncio.to_thread(self._told, request, name))

    def _told(self, request: Request, name: str) -> dict[str, Any]:
        logins, cookie = self._logins, request.cookies.get(COOKIE, "")
        visitor = logins.visitor_of(request)
        here = "" if visitor is None else visitor.session
        sessions = [{**asdict(one), "current": one.id == here} for one in logins.sessions.of(name)]
        csrf = logins.form_secret(cookie) if here else ""
        scopes = list(visitor.scopes) if visitor else []
        return {**user_told(logins.users.get(name)), "scopes": scopes, "sessions": sessions, "csrf": csrf}

    async def password(self, request: Request, fields: PasswordChange) -> Response:
        """Another password, for who knows the old one. Every login ends, this one too."""
        name = self._name(request)
        address = request.client.host if request.client else ""
        try:
            await self._logins.log_in(name, fields.old, address)
        except DanqingError as error:
            if error.code != "wrong_password":
                raise
            raise DanqingError("invalid_field", field="old", reason=error.text("en")) from None
        await asyncio.to_thread(self._logins.users.set_password, name, fields.new)
        return SafeJson({})

    async def end_session(self, request: Request, session_id: SessionId) -> Response:
        """Log one of the caller's browsers out."""
        name = self._name(request)
        if not await asyncio.to_thread(self._logins.sessions.revoke, name, session_id):
            raise DanqingError("unknown_route", path=f"/v1/account/sessions/{session_id[:64]}")
        return SafeJson({})

    async def end_sessions(self, request: Request) -> Response:
        """Log all of the caller's browsers out."""
        await asyncio.to_thread(self._logins.users.end_sessions, self._name(request))
        return SafeJson({})

    async def tokens(self, request: Request) -> Response:
        """The caller's tokens, without their texts."""
        rows = await asyncio.to_thread(self._logins.tokens.of, self._name(request))
        return SafeJson({"tokens": [token_told(row) for row in rows]})

    async def new_token(self, request: Request, wish: TokenWish) -> Response:
        """Make a token, with scopes that the caller has. Its text is in this answer only."""
        name = self._name(request)
        mine = self._logins.users.get(name).scopes
        for scope in wish.scopes:
            if scope not in mine:
                raise DanqingError("not_allowed", scope=scope[:60])
        text, row = await asyncio.to_thread(self._logins.tokens.new, wish.name, wish.scopes, name)
        return SafeJson({"token": text, **token_told(row)}, 201)

    async def revoke_token(self, request: Request, token_id: TokenId) -> Response:
        """End one of the caller's tokens."""
        name = self._name(request)
        try:
            await asyncio.to_thread(self._logins.tokens.revoke, token_id, name)
        except DanqingError:
            raise DanqingError("unknown_route", path=f"/v1/tokens/{token_id[:64]}") from None
        return SafeJson({})


def token_told(row: Token) -> dict[str, Any]:
    """A token as JSON, without what it opens doors with."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.created))
    return {"id": row.id, "name": row.name, "owner": row.owner, "scopes": list(row.scopes), "created": created}


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes of one's own login."""
    account = Account(context)
    for method, path, handler in (
        ("GET", "/account", account.show),
        ("POST", "/account/password", account.password),
        ("DELETE", "/account/sessions", account.end_sessions),
        ("DELETE", "/account/sessions/{session_id}", account.end_session),
        ("GET", "/tokens", account.tokens),
        ("DELETE", "/tokens/{token_id}", account.revoke_token),
    ):
        router.add_api_route(path, handler, methods=[method])
    router.add_api_route("/tokens", account.new_token, methods=["POST"], status_code=201)
