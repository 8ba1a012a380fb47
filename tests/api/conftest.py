"""Servers of the API's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, start_server

FAKE = f"{sys.executable} {Path(__file__).parents[1] / 'jobs' / 'fake_engine.py'}"


@pytest.fixture(scope="session")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a login whose engine draws noise at once."""
    more = {"DANQING_ENGINE_COMMAND": FAKE, "DANQING_LIMIT_QUEUE": "40"}
    running = start_server(tmp_path_factory.mktemp("quick") / "data", environment=more)
    yield running
    running.stop()
