"""One job from the first byte to its pictures on disk."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from danqing.client.http import Server
from danqing.errors import DanqingError, environment_language

TRIES = 20
"""Times that a broken stream of events is opened again."""

Watch = Callable[[dict[str, Any]], None]


def draw(server: Server, fields: dict[str, Any], watch: Watch, key: str = "") -> dict[str, Any]:
    """Submit a job and wait for it; the job as the server tells it when it is over.

    Args:
        fields: of POST /v1/jobs.
        watch: called with the job at every change.
        key: the idempotency key; the same one again finds the same job.

    Raises:
        DanqingError: what the server says, `job_failed`; a job that is left by Ctrl-C is cancelled.
    """
    job = server.job("POST", "/v1/jobs", fields, {"Idempotency-Key": key or uuid4().hex})
    try:
        job = followed(server, job, watch)
    except KeyboardInterrupt:
        with contextlib.suppress(DanqingError):
            server.ask("DELETE", f"/v1/jobs/{job['id']}")
        raise
    if job["state"] != "done":
        error = job["error"] or {"message": job["state"]}
        raise DanqingError("job_failed", job=job["id"], reason=error["message"])
    return job


def followed(server: Server, job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """A job when it is over, over broken streams and restarts of the server.

    Raises:
        DanqingError: what the server says.
    """
    for attempt in range(TRIES):
        try:
            for told in server.events(f"/v1/jobs/{job['id']}/events"):
                job = told
                watch(job)
        except DanqingError as error:
            away = error.code == "server_unreachable" or error.params.get("busy") == 1
            if not away or attempt == TRIES - 1:
                raise
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        # The server was restarted or a proxy hung up: the job is kept there.
        job = server.job("GET", f"/v1/jobs/{job['id']}")
    raise DanqingError("server_unreachable", url=server.url, reason="the events end too early")


def fetch(server: Server, job: dict[str, Any], name: Callable[[int], Path]) -> list[Path]:
    """Store a job's pictures, each whole or not at all.

    Raises:
        DanqingError: what the server says, `cannot_write`.
    """
    paths = []
    for place, picture in enumerate(job["images"]):
        path = name(place)
        half = path.with_name(path.name + ".part")
        content = server.file(f"/v1/images/{picture}")
        try:
            half.write_bytes(content)
            half.replace(path)
        except OSError as error:
            raise DanqingError("cannot_write", path=str(path), reason=error.strerror or str(error)) from None
        paths.append(path)
    return paths


def picture_text(path: Path) -> str:
    """A file in base64.

    Raises:
        DanqingError: `cannot_read`.
    """
    try:
        return base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError as error:
        raise DanqingError("cannot_read", path=str(path), reason=error.strerror or str(error)) from None


def named(output: Path, count: int) -> Callable[[int], Path]:
    """Paths of pictures: in a folder by number, or a file; several files get `-1`, `-2`."""
    if output.is_dir() or not output.suffix:
        return lambda place: output / f"danqing-{place + 1:03d}.png"
    if count == 1:
        return lambda place: output
    return lambda place: output.with_name(f"{output.stem}-{place + 1}{output.suffix}")


def progress_line() -> Watch:
    """A watcher that keeps one line on a terminal's stderr; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        return lambda job: None
    words = {"en": ("waiting, {position} ahead", "drawing"), "zh": ("排队中，前面 {position} 个", "绘制中")}
    waiting, drawing = words[environment_language()]

    def watch(job: dict[str, Any]) -> None:
        over = job["state"] not in ("queued", "running")
        queued = job["state"] == "queued"
        filled = round(job["progress"] * 30)
        text = waiting.format(**job) if queued else f"{drawing} [{'#' * filled:30}] {job['progress']:4.0%}"
        sys.stderr.write("\r\x1b[K" + ("" if over else text))
        sys.stderr.flush()

    return watch
