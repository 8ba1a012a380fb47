"""Users with sessions of their own, one in a browser, draw at once: nobody sees another's; `bench.sessions` has twenty."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.sessions import run
from tests.conftest import start_server


def test_sessions_draw_at_once_and_nobody_sees_anothers(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data", "--users", "login", environment={"DANQING_LIMIT_REQUESTS_A_SECOND": "0"})
    try:
        with ThreadPoolExecutor(1) as pool:  # the package's browser has a loop in this thread already
            told = pool.submit(lambda: asyncio.run(run(server, count=4, browsers=1, seconds=6))).result()
    finally:
        server.stop()
    assert told["leaks"] == []
    assert told["pictures"] >= 2
    assert told["first_step_seconds"]
    assert {"/ui/gallery", "/v1/jobs", "/sdapi/v1/progress"} <= set(told["milliseconds"])
