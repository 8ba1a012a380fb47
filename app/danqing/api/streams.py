"""Streams of events end when the login ends that opened them: logged out, shut out, another password, a token revoked."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from danqing.api.auth import Logins
from danqing.api.errors import Message, Send

RECHECK_SECONDS = 1.0
"""How long a stream is believed to be its visitor's."""


def while_in(logins: Logins, connection: HTTPConnection, send: Send) -> Send:
    """`send` for the answer to a request that the guard let pass. All but streams of events pass as they are.

    An event that comes when its reader is no longer logged in is not told: the stream ends in its place.
    """
    visitor = logins.visitor_of(connection)
    if visitor is None:
        return send
    seen, stream, over = time.monotonic(), False, False

    async def watched(message: Message) -> None:
        nonlocal seen, stream, over
        if message["type"] == "http.response.start":
            stream = Headers(raw=message.get("headers", [])).get("content-type", "").startswith("text/event-stream")
        elif stream and time.monotonic() - seen >= RECHECK_SECONDS:
            seen = time.monotonic()
            over = over or not logins.still(visitor, connection)
            if over:
                message = {"type": "http.response.body", "body": b"", "more_body": False}
                stream = False
        elif over:
            return
        await send(message)

    return watched
