"""Connections that ask for nothing are let go; those that do are not."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import pytest
import uvicorn

from danqing import doorstep

LATE = 0.3


async def app(
    scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    await asyncio.sleep(3 * LATE)  # an answer takes as long as it takes
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(doorstep, "HEAD_SECONDS", LATE)
    server = uvicorn.Server(uvicorn.Config(app, http=doorstep.Protocol, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.ensure_future(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def test_who_says_nothing_is_let_go_and_who_waits_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def visit() -> None:
        async with serving(monkeypatch) as port, asyncio.timeout(30):
            silent, half, whole = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            half[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
            whole[1].write(request)
            assert await silent[0].read() == await half[0].read() == b""
            assert (await whole[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            whole[1].write(request)
            assert (await whole[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200"), "the same connection goes on"
            whole[1].write(b"GET ")
            assert await whole[0].read() == b"", "half a further request"

    asyncio.run(visit())


def test_more_files_may_be_open_than_a_shell_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(1024, before[1])
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
        doorstep.more_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(before[1], doorstep.DESCRIPTORS), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
