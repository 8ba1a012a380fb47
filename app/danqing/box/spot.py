"""A spot machine gets two minutes' notice. The box stops taking jobs up, finishes what it draws, and closes its data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from danqing.box import idle, tools
from danqing.box.local import Client, data_folder
from danqing.box.metadata import Metadata
from danqing.box.places import USER, Places

POLL_SECONDS = 5.0
DRAIN_SECONDS = 75.0
"""Of the 120; closing the data and the volume's detaching need the rest."""
DRAIN = "run/drain"
"""Below the data folder: while it is there, no further job is handed to the engine."""
ENGINE = "danqing.target"

Say = Callable[[str], None]


def watch(places: Places, metadata: Metadata, client: Client, say: Say, poll: float = POLL_SECONDS) -> None:
    """Returns when this is no spot machine; else watches until its notice comes, and drains then."""
    metadata.wait(places)
    if metadata.get("meta-data/instance-life-cycle") != "spot":
        say("not a spot machine: nothing to watch")
        return
    say("watching for the notice of a spot machine")
    while (notice := notice_of(metadata)) is None:
        time.sleep(poll)
    say(f"notice: {notice}")
    drain(places, client, say)
    tools.quiet("systemctl", "stop", ENGINE, seconds=60)
    say("stopped; jobs that wait are kept on the data volume")


def notice_of(metadata: Metadata) -> str | None:
    """`terminate at 2026-…`, None while there is no notice."""
    text = metadata.get("meta-data/spot/instance-action")
    if not text:
        return None
    try:
        found = json.loads(text)
        return f"{found['action']} at {found['time']}"
    except (ValueError, KeyError, TypeError):
        return text.strip()


def drain(places: Places, client: Client, say: Say, seconds: float = DRAIN_SECONDS) -> bool:
    """Hand out no more jobs and wait for those that run; whether all ended in time.

    What did not is drawn after the next start.
    """
    hold(places)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        load = idle.load_of(client)
        if load is None or load.running == 0:
            say("drained")
            return True
        time.sleep(1)
    say("some jobs were still being drawn; they are drawn again after the next start")
    return False


def hold(places: Places) -> Path:
    """Keep the queue from handing out jobs until the next boot of the service."""
    path = data_folder(places) / DRAIN
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch()
    tools.give(path.parent, USER)
    tools.give(path, USER)
    return path
