"""/v1/users: what administrators do with the logins of others. Tokens cannot, whatever their scope."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.api.fields import example
from danqing.api.users import LIMITS, User, check_password, told

Role = Literal["admin", "artist", "api"]
UserName = Annotated[str, Path(description="A name of GET /v1/users.", max_length=64)]


class NewUser(BaseModel):
    """Body of POST /v1/users. Without a password only OIDC lets the user in."""

    model_config = example({"name": "li", "role": "artist", "password": "correct horse battery"})

    name: str
    role: Role = "artist"
    password: Annotated[str, Field(max_length=1000)] | None = None
    subject: Annotated[str, Field(max_length=500)] | None = None


class UserChange(BaseModel):
    """Body of PATCH /v1/users/{name}: what is not named stays; null takes a limit away."""

    model_config = example({"role": "api", "jobs": 20}) | ConfigDict(extra="forbid")

    role: Role | None = None
    disabled: bool | None = None
    password: Annotated[str, Field(max_length=1000)] | None = None
    jobs: int | None = None
    images: int | None = None
    weight: float | None = None


class People:
    """For administrators."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._users = context.logins.users

    def _told(self, user: User) -> dict[str, Any]:
        failed, wait = self._context.logins.failures(user.name)
        return {**told(user), "failed_logins": failed, "wait": wait}

    async def list(self, request: Request) -> Response:
        """All users, by name: also their failed logins since the last right one, and the seconds until the next try."""
        self._context.require_admin(request)
        return SafeJson({"users": [self._told(user) for user in await asyncio.to_thread(self._users.all)]})

    async def add(self, request: Request, wish: NewUser) -> Response:
        """A new user."""
        self._context.require_admin(request)
        user = await asyncio.to_thread(self._users.add, wish.name, wish.role, wish.password, wish.subject)
        return SafeJson(told(user), 201)

    async def change(self, request: Request, name: UserName, change: UserChange) -> Response:
        """Another role, password or limits; shut out or let in again. What is changed holds at once."""
        self._context.require_admin(request)
        await asyncio.to_thread(self._change, name, change)
        return SafeJson(told(await asyncio.to_thread(self._users.get, name)))

    def _change(self, name: str, change: UserChange) -> None:
        self._users.get(name)
        given: dict[str, Any] = change.model_dump(exclude_unset=True)
        # Before anything is changed: what is refused has changed nothing.
        if change.password is not None:
            check_password(change.password)
        self._users.limit(name, {field: given[field] for field in LIMITS if field in given})
        if change.role is not None:
            self._users.set_role(name, change.role)
        if change.disabled is not None:
            self._users.disable(name, change.disabled)
        if change.password is not None:
            self._users.set_password(name, change.password)

    async def end_sessions(self, request: Request, name: UserName) -> Response:
        """Log a user out everywhere."""
        self._context.require_admin(request)
        user = await asyncio.to_thread(self._users.get, name)
        await asyncio.to_thread(self._users.end_sessions, user.name)
        return SafeJson({})

    async def pardon(self, request: Request, name: UserName) -> Response:
        """Forget a user's wrong passwords: they may try again at once, also from the addresses that were made to wait."""
        self._context.require_admin(request)
        user = await asyncio.to_thread(self._users.get, name)
        self._context.logins.pardon(user.name)
        return SafeJson({})

    async def remove(self, request: Request, name: UserName) -> Response:
        """Take a user away for good: logins and tokens end, jobs are cancelled, pictures go into the trash; options, presets
        and pictures to train on are deleted.

        The answer counts those `pictures`. Nobody gets the name again.
        """
        self._context.require_admin(request)
        user = await asyncio.to_thread(self._users.get, name)
        # Shut out first: nothing may come after what is taken away here.
        await asyncio.to_thread(self._users.remove, user.name)
        return SafeJson({"pictures": await self._context.removed.clear(user.name)})


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes of users."""
    people = People(context)
    router.add_api_route("/users", people.list, methods=["GET"])
    router.add_api_route("/users", people.add, methods=["POST"], status_code=201)
    router.add_api_route("/users/{name}", people.change, methods=["PATCH"])
    router.add_api_route("/users/{name}/sessions", people.end_sessions, methods=["DELETE"])
    router.add_api_route("/users/{name}", people.remove, methods=["DELETE"])
    router.add_api_route("/users/{name}/failures", people.pardon, methods=["DELETE"])
