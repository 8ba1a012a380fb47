"""Telling the engine something, also when it has just died."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from danqing.engine.protocol import Message

log = structlog.get_logger(__name__)


async def tell(send: Callable[[Message], Awaitable[None]], body: dict[str, Any]) -> bool:
    """Send a message; False when there is no engine: then whoever minds it has heard that it is lost, or is about to."""
    try:
        await send(Message(body))
    except OSError as error:
        log.info("engine did not listen", op=body["op"], error=str(error))
        return False
    return True
