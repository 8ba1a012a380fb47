"""One house for all tests of this folder: building the page takes seconds. Who changes a user takes one of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.security.support import House, furnish, house

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Runs a coroutine in the loop that the house lives in."""
    with asyncio.Runner() as runner:

        async def bounded(work: Coroutine[Any, Any, Any]) -> Any:
            async with asyncio.timeout(240):
                return await work

        yield lambda work: runner.run(bounded(work))


@pytest.fixture(scope="session")
def home(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    stack = AsyncExitStack()

    async def open_house() -> House:
        found = await stack.enter_async_context(house(tmp_path_factory.mktemp("house")))
        await furnish(found)
        return found

    yield run(open_house())
    run(stack.aclose())
