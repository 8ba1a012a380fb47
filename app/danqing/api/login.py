"""The login page and the way out. Without scripts, so that nothing but the form can go wrong."""

from __future__ import annotations

import os
import secrets
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from danqing.api.auth import ADMIN, COOKIE, Logins
from danqing.api.errors import SafeJson, language_of_request
from danqing.api.guard import LOOPBACK_NAMES, host_name, tells_where_from
from danqing.api.oidc import Oidc
from danqing.api.users import API
from danqing.errors import DanqingError, Language

PAGE = Path(__file__).parent / "pages" / "login.html"
BOX = "DANQING_BOX_DATA"
"""In the environment of a machine that is a box: its password is kept elsewhere."""
FORM_COOKIE = "danqing_form"
OIDC_COOKIE = "danqing_oidc"
FORM_LIMIT = 16 * 1024
"""Bytes of the form."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
}

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Log in",
        "heading": "Danqing 丹青",
        "lead": "Log in to draw.",
        "user": "User name",
        "password": "Password",
        "submit": "Log in",
        "hint": "The password made at first start is on the server: <code>secrets/password</code> in the data folder.",
        "box": "The password is on the machine: <code>sudo danqing box password</code>.",
        "plain": "This connection is not encrypted: others on the way can read your password. Prefer https.",
        "oidc": "Log in through {issuer}",
        "again": "The form was too old. Please try again.",
    },
    "zh": {
        "title": "登录",
        "heading": "丹青 Danqing",
        "lead": "登录后即可作画。",
        "user": "用户名",
        "password": "密码",
        "submit": "登录",
        "hint": "首次启动时生成的密码保存在服务器数据目录的 <code>secrets/password</code> 文件中。",
        "box": "密码在这台机器上：<code>sudo danqing box password</code>。",
        "plain": "当前连接未加密，途中的人可以看到您的密码。若本站支持 https，请改用 https。",
        "oidc": "通过 {issuer} 登录",
        "again": "表单已过期，请重试。",
    },
}


class LoginPages:
    """GET and POST /login, POST /logout, and the way through an OpenID Connect provider where one is set."""

    def __init__(self, logins: Logins, oidc: Oidc | None = None) -> None:
        self._logins, self._oidc = logins, oidc
        self._page = Template(PAGE.read_text("utf-8"))

    async def show(self, request: Request) -> Response:
        target = local_path(request.query_params.get("next", "/"))
        token = request.cookies.get(COOKIE, "")
        if not self._logins.required or (token and self._logins.sessions.user(token)):
            return RedirectResponse(target, 303)
        return self._asked(request, target)

    async def enter(self, request: Request) -> Response:
        form = await _form(request)
        target = local_path(form.get("next", "/"))
        if not self._logins.required:
            return RedirectResponse(target, 303)
        if not self._from_here(request, form):
            return self._asked(request, target, error=WORDS[language_of_request(request)]["again"], status=403)
        name = form.get("user", "")
        try:
            user = await self._logins.log_in(name, form.get("password", ""), _address(request))
            self._check_page(user)
        except DanqingError as error:
            text = error.text(language_of_request(request))
            page = self._asked(request, target, name=name[:200], error=text, status=error.status)
            if error.code == "too_many_logins":
                page.headers["Retry-After"] = str(error.params["seconds"])
            return page
        return self._let_in(request, user, target)

    def _from_here(self, request: Request, form: dict[str, str]) -> bool:
        """Whether the form is ours: the browser says so, or it brings back what we put into it."""
        if tells_where_from(request.headers):
            return True
        return self._logins.is_form_secret(form.get("csrf", ""), request.cookies.get(FORM_COOKIE, ""))

    def _check_page(self, name: str) -> None:
        user = self._logins.users.find(name)
        if user is None or user.role == API:
            raise DanqingError("page_closed")

    def _let_in(self, request: Request, user: str, target: str) -> Response:
        response = RedirectResponse(target, 303, HEADERS)
        agent = request.headers.get("user-agent", "")
        token = self._logins.sessions.open(user, _address(request), agent)
        seconds = int(self._logins.sessions.seconds)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/")
        return response

    async def elsewhere(self, request: Request) -> Response:
        """GET /login/oidc: on to the provider."""
        if self._oidc is None or not self._logins.required:
            return RedirectResponse("/login", 303, HEADERS)
        try:
            url, cookie = await self._oidc.begin(_origin(request), local_path(request.query_params.get("next", "/")))
        except DanqingError as error:
            return self._asked(request, "/", error=error.text(language_of_request(request)), status=error.status)
        response = RedirectResponse(url, 303, HEADERS)
        secure = request.url.scheme == "https"
        # Lax: the provider sends the browser back here from another site.
        response.set_cookie(
            OIDC_COOKIE, cookie, max_age=600, httponly=True, samesite="lax", secure=secure, path="/login/oidc"
        )
        return response

    async def back(self, request: Request) -> Response:
        """GET /login/oidc/back: what the provider says. Only a browser that we have sent there gets in, and once."""
        if self._oidc is None or not self._logins.required:
            return RedirectResponse("/login", 303, HEADERS)
        cookie = request.cookies.get(OIDC_COOKIE, "")
        try:
            self._logins.backoff.check(_address(request))
            user, target = await self._oidc.finish(cookie, request.query_params, _origin(request))
            self._check_page(user)
        except DanqingError as error:
            self._logins.backoff.failed(_address(request))
            response = self._asked(request, "/", error=error.text(language_of_request(request)), status=error.status)
        else:
            response = self._let_in(request, user, target)
        response.delete_cookie(OIDC_COOKIE, path="/login/oidc")
        return response

    async def leave(self, request: Request) -> Response:
        self._logins.sessions.close(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303, HEADERS)
        response.delete_cookie(COOKIE, path="/")
        return response

    async def stay(self, request: Request) -> Response:
        return SafeJson({"detail": "Method Not Allowed"}, 405, {"Allow": "POST"})

    def _asked(
        self, request: Request, target: str, *, name: str = ADMIN, error: str = "", status: int = 200
    ) -> Response:
        """The form, for this browser."""
        cookie = request.cookies.get(FORM_COOKIE, "") or secrets.token_urlsafe(16)
        encrypted = request.url.scheme == "https" or host_name(request.headers.get("host", "")) in LOOPBACK_NAMES
        page = self._render(
            language_of_request(request),
            target,
            name=name,
            error=error,
            status=status,
            csrf=self._logins.form_secret(cookie),
            plain=not encrypted,
        )
        secure = request.url.scheme == "https"
        page.set_cookie(FORM_COOKIE, cookie, httponly=True, samesite="strict", secure=secure, path="/login")
        return page

    def _render(
        self,
        language: Language,
        target: str,
        *,
        name: str = ADMIN,
        error: str = "",
        status: int = 200,
        csrf: str = "",
        plain: bool = False,
    ) -> Response:
        words = WORDS[language]
        told = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
        warning = f'<p class="warning" role="note">{escape(words["plain"])}</p>' if plain else ""
        text = self._page.substitute(
            words,
            hint=words["box" if BOX in os.environ else "hint"],
            language=language,
            next=escape(target, quote=True),
            name=escape(name, quote=True),
            error=told,
            warning=warning,
            csrf=escape(csrf, quote=True),
            elsewhere=self._elsewhere(words, target),
        )
        return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)

    def _elsewhere(self, words: dict[str, str], target: str) -> str:
        if self._oidc is None:
            return ""
        text = words["oidc"].format(issuer=urlsplit(self._oidc.issuer).netloc)
        return f'<a class="other" href="/login/oidc?next={quote(target)}">{escape(text)}</a>'


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}"


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_LIMIT:
            raise DanqingError("body_too_large", size=len(body), maximum=FORM_LIMIT)
    pairs = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    return {key: values[-1] for key, values in pairs.items()}


def local_path(target: str) -> str:
    """`target` when it is a path on this server, else "/": a login must not lead to another site."""
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if safe and target.isascii() and "\\" not in target else "/"
