"""GET changes nothing: after every one, by an administrator and by an owner, the data folder and both databases are as before.

Logging in through OpenID Connect is the one exception, and needs a state that this server gave out: without it it changes
nothing either.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.security.conftest import Run
from tests.security.support import House
from tests.security.test_isolation import PARAMETER, routes

UNSTEADY = ("cache", "run")
"""Folders that may be removed at any time, and the name of the engine's log."""


def state(data: Path) -> dict[str, str]:
    """Every file by its content, databases by their rows."""
    found = {}
    for path in sorted(data.rglob("*")):
        name = str(path.relative_to(data))
        if not path.is_file() or name.split("/")[0] in UNSTEADY or name.endswith(("-wal", "-shm", ".log")):
            continue
        if path.suffix == ".db":
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                content = "\n".join(database.iterdump()).encode()
        else:
            content = path.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def test_no_get_changes_anything(home: House, run: Run) -> None:
    async def visit() -> None:
        things = {**home.things, "session_id": "x"}
        asked = 0
        for name in ("admin", "owner", "nobody"):
            before = state(home.data)
            for method, path in routes(home.app):
                if method not in ("GET", "HEAD"):
                    continue
                where = PARAMETER.sub(lambda match: things.get(match[1], "x"), path)
                answer = await home.ask(method, where + "?restore=1&delete=1&state=x&code=x", home.headers[name])
                assert answer.status < 500 or "gradio_api" in path, (method, path, answer.status)
                asked += 1
            after = state(home.data)
            assert after == before, sorted(set(after.items()) ^ set(before.items()))
        assert asked > 200

    run(visit())
