"""Waiting for a box's page, telling its phases meanwhile."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from danqing.cloud import instances
from danqing.cloud.clients import Cloud
from danqing.cloud.errors import CloudError
from danqing.cloud.instances import Instance

POLL_SECONDS = 2.0
ASK_SECONDS = 5.0
GONE = ("stopping", "stopped", "shutting-down", "terminated")

# A proxy for the way to AWS is none for the way to the box.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a page of the box; (0, {}) while nothing answers."""
    try:
        with _OPENER.open(url.rstrip("/") + path, timeout=ASK_SECONDS) as answer:
            return answer.status, _object(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _object(error.read())
    except (OSError, ValueError):
        return 0, {}


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def until_ready(cloud: Cloud, instance: Instance, minutes: float, say: Callable[[str, str], None]) -> Instance:
    """Wait until /readyz answers 200; the machine with its address. `minutes` 0 does not wait.

    Raises:
        CloudError: `stopped_early`, `not_ready`.
    """
    end = time.monotonic() + minutes * 60
    told: set[str] = set()
    while minutes and time.monotonic() < end:
        instance = instances.fresh(cloud, instance.id)
        if instance.state in GONE:
            params = {"instance": instance.id, "state": instance.state, "region": cloud.region}
            raise CloudError("stopped_early", **params, reason=instance.reason or "?")
        status, answer = ask(instance.url, "/readyz") if instance.url else (0, {})
        _tell(status, answer, instance.url, told, say)
        if status == 200:
            return instance
        time.sleep(POLL_SECONDS)
    if minutes:
        params = {"instance": instance.id, "url": instance.url, "region": cloud.region}
        raise CloudError("not_ready", **params, minutes=f"{minutes:g}")
    return instance


def _tell(status: int, answer: dict[str, Any], url: str, told: set[str], say: Callable[[str, str], None]) -> None:
    """Every phase once, when it is over."""
    if status and "page" not in told:
        told.add("page")
        say(f"The waiting page answers at {url}", f"等待页面已可访问：{url}")
    for phase in answer.get("phases", ()):
        name = str(phase.get("name"))
        if phase.get("state") == "done" and name not in told:
            told.add(name)
            say(f"  {name}: {phase.get('seconds')} s", f"  {name}：{phase.get('seconds')} 秒")
