"""Stops a box that nobody draws on. A timer calls this every minute; nothing happens unless minutes are set."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from danqing.box import tools
from danqing.box.local import Client
from danqing.box.phases import replace
from danqing.box.places import Places

MINUTES_VARIABLE = "DANQING_BOX_IDLE_MINUTES"
LEAST_UP_MINUTES = 10
"""Somebody has only just started it."""


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs as the app counts them. `done` grows with every job that ended since the service began."""

    running: int
    waiting: int
    done: int


def load_of(client: Client) -> Load | None:
    """From /metrics; None when nobody answers."""
    answer = client.get("/metrics")
    if answer.status != 200:
        return None
    jobs = {
        state: float(value)
        for state, value in re.findall(r'^danqing_jobs\{state="(\w+)"\} (\S+)', answer.text, re.MULTILINE)
    }
    ended = jobs.get("done", 0) + jobs.get("failed", 0)
    waiting = jobs.get("queued", jobs.get("waiting", 0))
    return Load(int(jobs.get("running", 0)), int(waiting), int(ended))


def minutes_wanted() -> int:
    """From the environment; 0 is off."""
    text = os.environ.get(MINUTES_VARIABLE, "0")
    return int(text) if text.isdigit() else 0


def check(places: Places, client: Client, minutes: int, power_off: Callable[[], None], now: float | None = None) -> str:
    """Look once; calls `power_off` when there was no job for so long. What was found, in one sentence."""
    if minutes <= 0:
        return "idle stop is off"
    # Since the boot, as /run is: a clock that is set must not look like hours without a job.
    moment = time.monotonic() if now is None else now
    load = load_of(client)
    if load is None:
        # Not ready or broken: somebody may be mending it.
        _remember(places, moment, -1)
        return "the app does not answer; counting anew"
    since, done = _last(places)
    busy = load.running or load.waiting or load.done != done
    if since == 0.0 or busy:
        _remember(places, moment, load.done)
        return f"busy: {load.running} running, {load.waiting} waiting" if busy and since else "counting begins"
    quiet = (moment - since) / 60
    if quiet < max(minutes, LEAST_UP_MINUTES):
        return f"no job for {quiet:.0f} of {minutes} minutes"
    power_off()
    return f"no job for {quiet:.0f} minutes: stopping"


def _last(places: Places) -> tuple[float, int]:
    try:
        found = json.loads((places.run / "idle.json").read_text("utf-8"))
        return float(found["since"]), int(found["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, -1


def _remember(places: Places, since: float, done: int) -> None:
    places.run.mkdir(parents=True, exist_ok=True)
    replace(places.run / "idle.json", json.dumps({"since": since, "done": done}))


def power_off() -> None:
    """On EC2 a power-off stops the machine: its disks stay, it costs nothing more."""
    tools.quiet("systemctl", "poweroff")
