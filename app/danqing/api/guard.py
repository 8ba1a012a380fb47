"""What every request passes before a route sees it, Gradio's routes included: host, origin, login, size.

Plain ASGI, because Starlette's function middleware would hold back streams. Order: `Envelope` (headers, time, metrics),
`Guard` (who may come in), `BodyLimit`, `Squeeze` (gzip), then the app.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from danqing.api.auth import COOKIE, OWNER_KEY, SCOPES_KEY, VISITOR_KEY, Logins, Visitor
from danqing.api.backoff import network
from danqing.api.errors import (
    App,
    Message,
    Receive,
    SafeJson,
    Scope,
    Send,
    answer_at,
    four_keys,
    in_dialect,
    is_dialect,
)
from danqing.api.rates import Rates
from danqing.api.streams import while_in
from danqing.api.tokens import DRAW, METRICS, READ
from danqing.errors import DanqingError, language_of_headers

if TYPE_CHECKING:
    from danqing.api.metrics import Metrics
    from danqing.api.request_log import RequestLog

OPEN_PATHS = frozenset({"/login", "/login/oidc", "/login/oidc/back", "/healthz", "/readyz"})
"""What visitors without a login may see."""

SHARED = "/shared/"
"""Below it are pictures that somebody shares: the secret in the path opens one of them to everybody."""

METRICS_PATH = "/metrics"
API_PATHS = frozenset({METRICS_PATH, "/openapi.json", "/docs", "/redoc", "/login", "/logout", "/healthz", "/readyz"})
API_PREFIXES = ("/sdapi/", "/v1/", "/controlnet/", "/internal/", "/pictures/", "/sd_extra_networks/", SHARED)
"""What is open to programs: tokens and users of the role `api`. All else is the page."""

ROOMY = ("/sdapi/", "/v1/", "/controlnet/", "/internal/")
SLASHES = re.compile(r"/{2,}")

CLOSED = (
    *(
        f"/gradio_api/{name}"
        for name in ("vibe", "undo-vibe", "proxy", "process_recording", "dev/", "upload", "deep_link")
    ),
    *("/proxy=", "/monitoring"),
)
"""Parts of Gradio that the page does not use and that write code, fetch addresses, tell of others, or keep files for ever."""

ANYBODYS = frozenset({"/logout"})
"""What those may do, too, who may not draw."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PROXY_HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
    # Gradio's page has inline scripts and styles, and compiles functions from strings.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
}

SQUEEZED = ("/sdapi/", "/controlnet/", "/internal/")
GZIP_FROM = 1000
"""Bytes; shorter answers are sent as they are."""


class Envelope:
    """Outermost: security headers, X-Process-Time, a count of every answer, and its line in the log."""

    def __init__(self, app: App, metrics: Metrics, log: RequestLog) -> None:
        self.app, self.metrics, self.log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["path"] = plain_path(scope["path"])
        start, status = time.perf_counter(), 0

        async def sealed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                seconds = time.perf_counter() - start
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Process-Time"] = str(round(seconds, 4))
                self.metrics.answered(scope, status, seconds)
            await send(message)

        try:
            await self.app(scope, receive, sealed)
        finally:
            self.log.over(scope, status, time.perf_counter() - start)


class Guard:
    """Refuses foreign hosts and origins, asks for the login, and leaves the owner in the scope."""

    def __init__(
        self, app: App, logins: Logins, allowed_hosts: str, origins: frozenset[str], rate: float = 0.0
    ) -> None:
        self.app, self.logins, self.origins = app, logins, origins
        self.rates = Rates(rate)
        self._hosts = self._host_names(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        response = await self._refusal(scope, connection)
        if response is None:
            await self.app(scope, receive, while_in(self.logins, connection, send))
        elif scope["type"] == "http":
            await response(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _refusal(self, scope: Scope, connection: HTTPConnection) -> Response | None:
        try:
            self._check_host(connection.headers)
            self._check_origin(scope, connection.headers)
            if not self.logins.required:
                self._check_proxy(connection.headers)
                check_closed(scope)
                return None
            visitor = await self.logins.visitor(connection)
            address = connection.client.host if connection.client else ""
            self.rates.take(f"address:{network(address)}" if visitor is None else f"user:{visitor.owner}")
            if visitor is None:
                return None if is_open(scope) else self._ask(scope, connection)
            self._check_form(scope, connection, visitor)
            check_scope(scope, visitor)
        except DanqingError as error:
            return self._refuse(error, connection)
        scope[OWNER_KEY], scope[SCOPES_KEY], scope[VISITOR_KEY] = visitor.owner, visitor.scopes, visitor
        return None

    def _host_names(self, allowed: str) -> frozenset[str] | None:
        """The names that a server on loopback answers to; None is any."""
        more = {name.strip().lower() for name in allowed.split(",") if name.strip()}
        listening = self.logins.host.strip("[]").lower()
        loopback = listening in LOOPBACK_NAMES or listening.startswith("127.")
        if not loopback or ("*" in more and self.logins.required):
            return None
        return LOOPBACK_NAMES | more | {listening}

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere whose name resolves to this machine (DNS rebinding) still says its own name here."""
        host = headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise DanqingError("wrong_host", host=host[:200])

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Browsers say which site a request comes from; programs send no Origin and pass."""
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise DanqingError("wrong_origin", origin="?")
            return
        if origin in self.origins:
            return
        parts = urlsplit(origin) if origin.isascii() else urlsplit("")
        if parts.scheme not in ("http", "https") or not same_host(parts.netloc, headers.get("host", ""), parts.scheme):
            raise DanqingError("wrong_origin", origin=origin[:200])

    def _check_form(self, scope: Scope, connection: HTTPConnection, visitor: Visitor) -> None:
        """A browser so old that it says neither Origin nor Sec-Fetch-Site may have been sent here by another site.

        Its requests with a session's cookie need the session's token (`csrf` of GET /v1/account) as X-CSRF-Token.
        """
        if visitor.way != "session" or (scope["type"] == "http" and scope["method"] in SAFE_METHODS):
            return
        if tells_where_from(connection.headers):
            return
        if not self.logins.is_form_secret(
            connection.headers.get("x-csrf-token", ""), connection.cookies.get(COOKIE, "")
        ):
            raise DanqingError("wrong_origin", origin="?")

    def _check_proxy(self, headers: Headers) -> None:
        """Behind a proxy everybody comes from loopback: without a login the whole net would be let in."""
        if any(name in headers for name in PROXY_HEADERS):
            raise DanqingError("proxied")

    def _refuse(self, error: DanqingError, connection: HTTPConnection) -> Response:
        path = connection.scope["path"]
        if error.code == "wrong_password":
            return unknown_visitor(path, "Incorrect username or password")
        return answer_at(path, error, language_of_headers(connection.headers))

    def _ask(self, scope: Scope, connection: HTTPConnection) -> Response:
        """People are sent to the login page, programs get the 401 that they know."""
        page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if page and "text/html" in connection.headers.get("accept", ""):
            return RedirectResponse("/login?next=" + quote(scope["path"]), 303, {"Cache-Control": "no-store"})
        return unknown_visitor(scope["path"], "Not authenticated")


def unknown_visitor(path: str, words: str) -> Response:
    """401 in the words and the shape that the programs of a path know."""
    return in_dialect(401, words) if is_dialect(path) else SafeJson(four_keys("HTTPException", words, ""), 401)


def plain_path(path: str) -> str:
    """A path of the API without the slashes that programs add by putting addresses together: "//sdapi/v1/options/"."""
    plain = SLASHES.sub("/", path).rstrip("/")
    return plain if path != plain and plain.startswith(ROOMY) else path


def is_open(scope: Scope) -> bool:
    """Whether visitors without a login may see this."""
    path = str(scope["path"])
    return path in OPEN_PATHS or (path.startswith(SHARED) and scope.get("method") in ("GET", "HEAD"))


def is_known(logins: Logins, scope: Scope) -> bool:
    """Whether a request that did not pass the guard comes from a browser that is logged in, or, without logins, from here.

    Passwords and tokens are not looked at: no door may be open beside the one that counts wrong ones.
    """
    connection = HTTPConnection(scope)
    if not logins.required:
        local = host_name(connection.headers.get("host", "")) in LOOPBACK_NAMES
        return local and not any(name in connection.headers for name in PROXY_HEADERS)
    return COOKIE in connection.cookies and logins.sessions.find(connection.cookies[COOKIE]) is not None


def check_closed(scope: Scope) -> None:
    """
    Raises:
        DanqingError: `unknown_route`.
    """
    path = str(scope["path"])
    if path.startswith(CLOSED):
        raise DanqingError("unknown_route", path=path[:200])


def check_scope(scope: Scope, visitor: Visitor) -> None:
    """Looking needs `read`, everything that may change something `draw`, the page a person, the numbers `metrics`.

    What needs more than that, its route asks for.

    Raises:
        DanqingError: `not_allowed`, `page_closed`.
    """
    path = str(scope["path"])
    if is_open(scope) or path in ANYBODYS:
        return
    if not visitor.page and path not in API_PATHS and not path.startswith(API_PREFIXES):
        raise DanqingError("page_closed")
    check_closed(scope)
    looking = scope["type"] == "http" and scope["method"] in SAFE_METHODS
    needed = METRICS if path == METRICS_PATH else READ if looking else DRAW
    if needed not in visitor.scopes:
        raise DanqingError("not_allowed", scope=needed)


def tells_where_from(headers: Headers) -> bool:
    """Whether a request says which site it comes from, or is no browser's: its Origin was checked before."""
    told = "origin" in headers or "sec-fetch-site" in headers
    return told or not headers.get("user-agent", "").startswith("Mozilla/")


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def same_host(one: str, other: str, scheme: str) -> bool:
    """Whether two authorities are the same, a scheme's usual port given or not."""
    usual = ":443" if scheme == "https" else ":80"
    return bool(one) and one.lower().removesuffix(usual) == other.lower().removesuffix(usual)


class BodyLimit:
    """Refuses bodies that are too long, by what they say and by what they send."""

    def __init__(self, app: App, maximum: int) -> None:
        self.app, self.maximum = app, maximum

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        said = headers.get("content-length", "0")
        language = language_of_headers(headers)
        size, over, started = 0, not said.isdigit() or int(said) > self.maximum, False

        def refusal() -> Response:
            shown = int(said) if said.isdigit() else size
            error = DanqingError("body_too_large", size=max(shown, size), maximum=self.maximum)
            return answer_at(scope["path"], error, language)

        async def counted() -> Message:
            nonlocal size, over
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.maximum:
                over = True
                raise DanqingError("body_too_large", size=size, maximum=self.maximum)
            return message

        async def checked(message: Message) -> None:
            # The app may have turned the error into an answer of its own: ours goes out instead, once.
            nonlocal started
            if over and not started and message["type"] == "http.response.start":
                started = True
                await refusal()(scope, receive, send)
            elif not (over and started):
                started = started or message["type"] == "http.response.start"
                await send(message)

        if over:
            await refusal()(scope, receive, send)
        else:
            await self.app(scope, counted, checked)


class Squeeze:
    """gzip for the API's JSON of one piece, where the client takes it; off the event loop."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["type"] == "http" and "gzip" in Headers(scope=scope).get("accept-encoding", "")
        if not wanted or not scope["path"].startswith(SQUEEZED):
            await self.app(scope, receive, send)
            return
        held: Message | None = None

        async def squeezed(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                held = message
                return
            if held is not None:
                start, held = held, None
                whole = not message.get("more_body", False) and len(message.get("body", b"")) >= GZIP_FROM
                headers = MutableHeaders(raw=start["headers"])
                if whole and headers.get("content-type", "").startswith("application/json"):
                    message = {**message, "body": await asyncio.to_thread(gzip.compress, message["body"], 1)}
                    headers["Content-Encoding"] = "gzip"
                    headers["Content-Length"] = str(len(message["body"]))
                    headers.add_vary_header("Accept-Encoding")
                await send(start)
            await send(message)

        await self.app(scope, receive, squeezed)
