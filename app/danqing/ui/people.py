"""The tab of logins as HTML; `static/people.js` sends its forms to /v1. Everything that a person named is escaped here."""

from __future__ import annotations

import asyncio
import time
from html import escape
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from danqing.api.admin_account import ADMIN
from danqing.api.tokens import DRAW, SCOPES, Token
from danqing.api.users import ROLES, User
from danqing.ui.answers import html, reader
from danqing.ui.words import say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.api.auth import Logins
    from danqing.api.sessions import Session
    from danqing.errors import Language
    from danqing.ui.context import UiContext

BROWSERS = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS": "macOS",
    "Linux": "Linux",
}
"""What a User-Agent holds → a name; the first that fits."""

Row = tuple["User", int, tuple[int, int]]
"""A user, how many browsers they are logged in with, and what `Logins.failures` says."""

LIMITS = (("jobs", "1"), ("images", "1"), ("weight", "any"))
"""Fields of a user's limits, and the steps of their boxes."""


class People:
    """The route, for one app."""

    def __init__(self, context: UiContext) -> None:
        self.context = context

    def add_to(self, app: FastAPI) -> None:
        """Hangs the route into `app`."""
        app.add_api_route("/ui/people", self.show, methods=["GET"], include_in_schema=False)

    async def show(self, request: Request) -> Response:
        """The reader's own login; for administrators everybody's."""
        logins, language = self.context.logins, reader(request)
        if logins is None or not logins.required:
            return html(f'<p class="dq-none">{escape(say("people_alone", language))}</p>')
        return html(await asyncio.to_thread(self._page, logins, request, language))

    def _page(self, logins: Logins, request: Request, language: Language) -> str:
        name = logins.owner_of(request)
        user, visitor = logins.users.find(name), logins.visitor_of(request)
        page = Page(language)
        parts = [] if user is None else [page.mine(user), page.password()]
        here = "" if visitor is None else visitor.session
        parts += [page.sessions(logins.sessions.of(name), here)]
        parts += [page.tokens(logins.tokens.of(name), () if user is None else user.scopes)]
        if self.context.steers(request):
            rows = [(one, len(logins.sessions.of(one.name)), logins.failures(one.name)) for one in logins.users.all()]
            parts += [page.everybody(rows, name)]
        return "".join(parts)


class Page:
    """The pieces in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def word(self, key: str, **params: object) -> str:
        return escape(say(f"people_{key}", self.language, **params))

    def section(self, title: str, inner: str) -> str:
        return f"<section><h2>{self.word(title)}</h2>{inner}</section>"

    def field(self, word: str, inner: str) -> str:
        return f'<label class="dq-field"><span>{self.word(word)}</span>{inner}</label>'

    def label(self, word: str) -> str:
        """What stands above a cell on a phone, where the table has no head."""
        return f'data-label="{self.word(word)}"'

    def button(self, word: str, method: str, path: str, more: str = "", **params: object) -> str:
        """A button that sends one request and looks again."""
        return (
            f'<button type="button" class="dq-button" data-people="{method}" data-path="{escape(path)}" {more}>'
            f"{self.word(word, **params)}</button>"
        )

    def mine(self, user: User) -> str:
        """Who this is, and the ways out."""
        role = say(f"people_role_{user.role}", self.language)
        inner = (
            f"<p>{self.word('as', name=user.name, role=role)}</p><div class='dq-people-row'>"
            f"{self.button('out', 'POST', '/logout')}"
            f'<a class="dq-button" href="/v1/export" download>{self.word("export")}</a></div>'
        )
        return self.section("mine", inner)

    def password(self) -> str:
        boxes = "".join(
            self.field(
                name, f'<input type="password" name="{name}" autocomplete="{hint}" required minlength="{least}">'
            )
            for name, hint, least in (("old", "current-password", 1), ("new", "new-password", 10))
        )
        done = self.word("changed")
        return self.section(
            "password",
            f'<form class="dq-form" data-people-form="/v1/account/password" data-done="{done}">{boxes}'
            f'<p class="dq-note">{self.word("ends")}</p><button class="dq-button">{self.word("change")}</button></form>',
        )

    def sessions(self, rows: list[Session], here: str) -> str:
        items = "".join(self._session(row, row.id == here) for row in rows)
        return self.section(
            "sessions", f"<ul class='dq-people'>{items}</ul>{self.button('end_all', 'DELETE', '/v1/account/sessions')}"
        )

    def _session(self, row: Session, here: bool) -> str:
        mark = f"<b>{self.word('here')}</b>" if here else ""
        end = self.button("end", "DELETE", f"/v1/account/sessions/{row.id}")
        told = f"{escape(row.address)} <small>{browser_of(row.agent)}</small> {mark}"
        return f'<li><span title="{escape(row.agent)}">{told}</span>{_moment(row.created)}{end}</li>'

    def tokens(self, rows: list[Token], scopes: tuple[str, ...]) -> str:
        items = "".join(self._token(row) for row in rows) or f"<li>{self.word('no_tokens')}</li>"
        chosen = {DRAW: " selected"}
        choices = "".join(
            f'<option value="{one}"{chosen.get(one, "")}>{self.word(f"scope_{one}")}</option>'
            for one in SCOPES
            if one in scopes
        )
        return self.section(
            "tokens",
            f"<ul class='dq-people'>{items}</ul><p class='dq-people-made' hidden>{self.word('once')} <code></code></p>"
            '<form class="dq-form" data-people-form="/v1/tokens">'
            f"{self.field('token_name', '<input name=name maxlength=100 required>')}"
            f"{self.field('scope', f'<select name=scopes>{choices}</select>')}"
            f'<button class="dq-button">{self.word("make")}</button></form>',
        )

    def _token(self, row: Token) -> str:
        scopes = ", ".join(self.word(f"scope_{one}") for one in row.scopes)
        end = self.button("revoke", "DELETE", f"/v1/tokens/{row.id}")
        return f"<li><span>{escape(row.name)} <small>{scopes}</small></span>{_moment(row.created)}{end}</li>"

    def everybody(self, users: list[Row], reader: str) -> str:
        """Everybody's rows; whoever reads does not take themselves away."""
        heads = ("name", "role", "jobs", "images", "weight", "in")
        head = "".join(f"<th>{self.word(one)}</th>" for one in heads)
        rows = "".join(self._user(*one, removable=one[0].name not in (reader, ADMIN)) for one in users)
        return self.section(
            "all",
            f"<div class='dq-scroll'><table><thead><tr>{head}<th></th></tr></thead><tbody>{rows}</tbody></table></div>",
        ) + self.section("add", self._add())

    def _user(self, user: User, sessions: int, failures: tuple[int, int], *, removable: bool) -> str:
        path, name = escape(f"/v1/users/{user.name}"), escape(user.name)
        limits = "".join(
            f'<td {self.label(field)}><input type="number" min="0" step="{step}" name="{field}" aria-label="{self.word(field)}"'
            f' placeholder="{self.word("usual")}" value="{"" if value is None else f"{value:g}"}"></td>'
            for field, step in LIMITS
            for value in (getattr(user, field),)
        )
        more = f"<br><small>{self.word('oidc')}</small>" if user.subject else ""
        more += self._failures(path, *failures)
        enabled = "" if user.disabled else " checked"
        return (
            f'<tr data-user="{path}"><td>{name}{more}</td><td {self.label("role")}>{self._roles(user.role)}</td>{limits}'
            f'<td {self.label("in")}><input type="checkbox" name="enabled" aria-label="{self.word("in")}"{enabled}></td>'
            f"<td>{self._acts(user, path, sessions, removable)}</td></tr>"
        )

    def _failures(self, path: str, count: int, wait: int) -> str:
        """Wrong passwords since the last login, how long the next try has to wait, and the way to let it come at once."""
        if not count:
            return ""
        told = self.word("failed", count=count) + (f" · {self.word('waits', seconds=wait)}" if wait else "")
        return f'<div class="dq-people-failed"><small>{told}</small> {self.button("pardon", "DELETE", f"{path}/failures")}</div>'

    def _acts(self, user: User, path: str, sessions: int, removable: bool) -> str:
        """What an administrator may do with a login beside changing its fields."""
        ask = self.word("reset_for", name=user.name)
        acts = f'<button type="button" class="dq-button" data-reset-password="{ask}">{self.word("reset")}</button>'
        if sessions:
            acts += self.button("end_theirs", "DELETE", f"{path}/sessions", count=sessions)
        if removable:
            ask = self.word("remove_sure", name=user.name)
            acts += self.button("remove", "DELETE", path, f'data-sure="{ask}"')
        return f'<div class="dq-people-row">{acts}</div>'

    def _roles(self, chosen: str) -> str:
        cells = "".join(
            f'<option value="{one}"{" selected" if one == chosen else ""}>{self.word(f"role_{one}")}</option>'
            for one in ROLES
        )
        return f'<select name="role" aria-label="{self.word("role")}">{cells}</select>'

    def _add(self) -> str:
        word = '<input type="password" name="password" autocomplete="new-password" minlength="10" required>'
        return (
            '<form class="dq-form" data-people-form="/v1/users">'
            f"{self.field('name', '<input name=name maxlength=64 required autocapitalize=none spellcheck=false>')}"
            f"{self.field('role', self._roles('artist'))}{self.field('new', word)}"
            f'<button class="dq-button">{self.word("add")}</button></form>'
        )


def browser_of(agent: str) -> str:
    """A browser and its system by their names, "" where they are not known."""
    found = (next((name for mark, name in names.items() if mark in agent), "") for names in (BROWSERS, SYSTEMS))
    return " · ".join(filter(None, found))


def _moment(seconds: float) -> str:
    told = time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
    return f'<time datetime="{told.replace(" ", "T")}Z">{told}</time>'
