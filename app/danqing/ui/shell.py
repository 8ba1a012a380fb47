"""The page's HTML shell is Gradio's; this puts our own words into its head before Gradio's scripts run.

Gradio adds a `head` of ours only after it has chosen the language, which is too late to say that zh-HK reads Chinese, and its
shell introduces itself as Gradio to those who share a link.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FOREIGN_META = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*?/>', re.DOTALL)
"""What Gradio's shell tells link previews of itself, with addresses outside."""


class Shell:
    """Wraps the mounted page: `head` goes in right behind `<head>` of the document at `/`."""

    def __init__(self, app: App, head: str) -> None:
        self.app = app
        self.head = head.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        # Plain text from inside, so that it can be added to; the app's own compression comes after it.
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        await self.app({**scope, "headers": headers}, receive, _Rewriter(self.edit, send))

    def edit(self, document: bytes) -> bytes:
        """The document with our head and without Gradio's introduction."""
        return FOREIGN_META.sub(b"", document).replace(b"<head>", b"<head>" + self.head, 1)


class _Rewriter:
    """Collects one response, edits it, sends it on."""

    def __init__(self, edit: Callable[[bytes], bytes], send: Send) -> None:
        self.edit, self.send = edit, send
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
        await self.send({**self.start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
