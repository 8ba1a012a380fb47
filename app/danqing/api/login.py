"""The login page and the way out. Without scripts, so that nothing but the form can go wrong."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from danqing.api.auth import ADMIN, COOKIE, Logins
from danqing.api.errors import SafeJson, language_of_request
from danqing.errors import DanqingError, Language

PAGE = Path(__file__).parent / "pages" / "login.html"
BOX = "DANQING_BOX_DATA"
"""In the environment of a machine that is a box: its password is kept elsewhere."""
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
    },
}


class LoginPages:
    """GET and POST /login, POST /logout."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._page = Template(PAGE.read_text("utf-8"))

    async def show(self, request: Request) -> Response:
        target = local_path(request.query_params.get("next", "/"))
        token = request.cookies.get(COOKIE, "")
        if not self._logins.required or (token and self._logins.sessions.user(token)):
            return RedirectResponse(target, 303)
        return self._render(language_of_request(request), target)

    async def enter(self, request: Request) -> Response:
        form = await _form(request)
        target = local_path(form.get("next", "/"))
        if not self._logins.required:
            return RedirectResponse(target, 303)
        name = form.get("user", "")
        address = request.client.host if request.client else ""
        try:
            user = await self._logins.log_in(name, form.get("password", ""), address)
        except DanqingError as error:
            language = language_of_request(request)
            page = self._render(language, target, name=name[:200], error=error.text(language), status=error.status)
            if error.code == "too_many_logins":
                page.headers["Retry-After"] = str(error.params["seconds"])
            return page
        response = RedirectResponse(target, 303, HEADERS)
        response.set_cookie(
            COOKIE,
            self._logins.sessions.open(user),
            max_age=int(self._logins.sessions.seconds),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
            path="/",
        )
        return response

    async def leave(self, request: Request) -> Response:
        self._logins.sessions.close(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303, HEADERS)
        response.delete_cookie(COOKIE, path="/")
        return response

    async def stay(self, request: Request) -> Response:
        return SafeJson({"detail": "Method Not Allowed"}, 405, {"Allow": "POST"})

    def _render(
        self, language: Language, target: str, *, name: str = ADMIN, error: str = "", status: int = 200
    ) -> Response:
        told = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
        words = WORDS[language]
        text = self._page.substitute(
            words,
            hint=words["box" if BOX in os.environ else "hint"],
            language=language,
            next=escape(target, quote=True),
            name=escape(name, quote=True),
            error=told,
        )
        return HTMLResponse(text.encode("utf-8", "replace"), status, HEADERS)


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
