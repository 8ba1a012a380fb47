"""Fixtures of the queue's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from danqing.jobs.service import JobService

from .support import Running, make_service


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """A context manager that starts a service on the test's folder and stops it."""

    @asynccontextmanager
    async def manager(**options: Any) -> AsyncIterator[JobService]:
        service = make_service(tmp_path / "data", **options)
        await service.start()
        try:
            yield service
        finally:
            await service.stop()

    return manager
