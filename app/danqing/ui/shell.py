"""The page's HTML shell is Gradio's; this puts our own words into its head before Gradio's scripts run.

Gradio adds a `head` of ours only after it has chosen the language, which is too late to say that zh-HK reads Chinese, and its
shell introduces itself as Gradio to those who share a link.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

from danqing.errors import LANGUAGE_COOKIE, Language
from danqing.ui.words import language_for, language_of

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FOREIGN_META = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*?/>', re.DOTALL)
"""What Gradio's shell tells link previews of itself, with addresses outside."""


YEAR = 365 * 86400


class Shell:
    """Wraps the mounted page: `head` goes in right behind `<head>` of the document at `/`.

    Args:
        default: "zh" or "en" for readers who chose no language and whose browser states neither; "auto" is English for them.
    """

    def __init__(self, app: App, head: str, default: str = "auto") -> None:
        self.app = app
        self.head = head.encode()
        self.default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        language, cookie = self.language(told)
        # Plain text from inside, so that it can be added to; the app's own compression comes after it.
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        edit = partial(self.edit, language=language)
        await self.app({**scope, "headers": headers}, receive, _Rewriter(edit, send, cookie))

    def language(self, headers: Mapping[str, str]) -> tuple[Language, str]:
        """The page's language, and a Set-Cookie that keeps the box's own choice for the requests that follow, "" for none."""
        kept = next((c for c in headers.get("cookie", "").split(";") if c.strip().startswith(LANGUAGE_COOKIE)), "")
        ours = ".box" in kept
        if kept and not ours:
            return language_for(headers), ""
        accepted = headers.get("accept-language", "")
        if self.default in ("zh", "en") and not accepted.strip().lower().startswith(("zh", "en")):
            language: Language = "zh" if self.default == "zh" else "en"
            return language, f"{LANGUAGE_COOKIE}={language}.box; Path=/; Max-Age={YEAR}; SameSite=Lax"
        gone = f"{LANGUAGE_COOKIE}=; Path=/; Max-Age=0; SameSite=Lax" if ours else ""
        return language_of(accepted), gone

    def edit(self, document: bytes, language: Language | None = None) -> bytes:
        """The document with our head, in its language, and without Gradio's introduction."""
        said = f"<script>window.danqingLanguage='{language}'</script>".encode() if language else b""
        return FOREIGN_META.sub(b"", document).replace(b"<head>", b"<head>" + said + self.head, 1)


class _Rewriter:
    """Collects one response, edits it, sends it on."""

    def __init__(self, edit: Callable[[bytes], bytes], send: Send, cookie: str = "") -> None:
        self.edit, self.send, self.cookie = edit, send, cookie
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if message["type"] != "http.response.body":
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = self.edit(self.body)
        headers = [(name, value) for name, value in self.start["headers"] if name.lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        if self.cookie:
            headers.append((b"set-cookie", self.cookie.encode()))
        await self.send({**self.start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
