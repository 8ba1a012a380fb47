"""What the routes need of the rest of the house."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from danqing.api.auth import Logins
from danqing.api.request_log import JOB_KEY
from danqing.api.tasks import Tasks
from danqing.api.tokens import ADMIN
from danqing.errors import DanqingError
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.api.options import Options
    from danqing.api.removed import Removed
    from danqing.api.webhooks import Webhooks
    from danqing.jobs.service import JobService
    from danqing.library.index import Library

CLIENT_COOKIE = "danqing_client"
USER = "user:"


def user_of(client: str) -> str:
    """The user whose client it is, "" where nobody logs in."""
    return client.removeprefix(USER) if client.startswith(USER) else ""


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every group of routes, so that nothing is global."""

    service: JobService
    library: Library
    settings: Settings
    logins: Logins
    options: Options
    tasks: Tasks
    webhooks: Webhooks
    removed: Removed
    stopping: asyncio.Event
    """Set when the server was told to stop: requests that wait for a picture end."""

    def owner(self, request: Request) -> str:
        """Who the request's jobs and pictures belong to."""
        return self.logins.owner_of(request)

    def tell_job(self, request: Request, job_id: str) -> None:
        """Which job a request became, for its line in the log."""
        request.scope[JOB_KEY] = job_id

    def require(self, request: Request, scope: str) -> None:
        """
        Raises:
            DanqingError: `not_allowed`, for a login or token that lacks `scope`.
        """
        if not self.logins.may(request, scope):
            raise DanqingError("not_allowed", scope=scope)

    def require_person(self, request: Request) -> str:
        """The user's name. Tokens may not make tokens, or change who may come in.

        Raises:
            DanqingError: `not_allowed`, for a token; `not_logged_in` where nobody logs in.
        """
        visitor = self.logins.visitor_of(request)
        if visitor is None:
            raise DanqingError("not_logged_in")
        if visitor.way == "token" or self.logins.users.find(visitor.owner) is None:
            raise DanqingError("not_allowed", scope="password")
        return visitor.owner

    def require_admin(self, request: Request) -> str:
        """The administrator's name.

        Raises:
            DanqingError: as `require_person`, and `not_allowed` for everybody else.
        """
        name = self.require_person(request)
        self.require(request, ADMIN)
        return name

    def client(self, request: Request) -> str:
        """Whose options apply: the user's, else those of a cookie, else those of the address."""
        if self.logins.required:
            return USER + self.owner(request)
        cookie = request.cookies.get(CLIENT_COOKIE, "")
        if cookie:
            return "cookie:" + cookie[:100]
        return "address:" + (request.client.host if request.client else "")
