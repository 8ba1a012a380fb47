"""What is unique to this machine: the data volume, the password, secrets, facts about the host.

Runs at every boot: the volume and the cache are opened each time, secrets are made once. What is done is written down in
`firstboot.json`; nothing in it is secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from typing import Any

from danqing import __version__
from danqing.box import local, tools, volume
from danqing.box.errors import BoxError
from danqing.box.metadata import Metadata
from danqing.box.phases import Phase, phase, replace
from danqing.box.places import USER, Places

VOLUME_VARIABLE = "DANQING_BOX_DATA_VOLUME"
IDLE_TIMER = "danqing-idle.timer"
PASSWORD_BYTES = 18


def run(places: Places, metadata: Metadata) -> None:
    """
    Raises:
        BoxError: `no_volume`, `volume_foreign`, `tool_failed`: without its data the box does not start.
    """
    with phase(places, "firstboot") as running:
        metadata.wait(places)
        told = metadata.told()
        done = _read(places)
        places.state.mkdir(parents=True, exist_ok=True)
        places.data.mkdir(parents=True, exist_ok=True)
        mounted = _volume(places, told)
        cache = _cache(places)
        first = not done
        password = _password(places)
        local.machine_token(places.data, make=True)
        _own(places)
        _environment(places, told, cache)
        if first:
            done = {"first": time.time(), "version": __version__, "host": metadata.facts(), "volume": mounted}
            replace(places.done, json.dumps(done, indent=1, sort_keys=True) + "\n")
        _say(running, first, mounted, password)
    with contextlib.suppress(OSError):
        tools.give(places.report, USER)


def _read(places: Places) -> dict[str, Any]:
    try:
        found = json.loads(places.done.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _say(running: Phase, first: bool, mounted: str, password: str) -> None:
    parts = ["first boot" if first else "done before", f"data on {mounted}" if mounted else "", password]
    running.row["note"] = "; ".join(part for part in parts if part)


def _volume(places: Places, told: dict[str, Any]) -> str:
    """The device under the data folder, "" for the machine's own disk."""
    wanted = str(told.get("data_volume") or os.environ.get(VOLUME_VARIABLE, "auto"))
    if wanted in volume.NONE or not tools.have("lsblk"):
        return ""
    if os.path.ismount(places.data):
        device = _device_of(places)
        tools.quiet("resize2fs", device, seconds=600)
        return device
    with phase(places, "volume") if wanted != "auto" else contextlib.nullcontext():
        disk = volume.wait_for(wanted)
        if disk is None:
            return ""
        volume.prepare(disk)
        volume.mount(places, disk)
        return disk.path


def _device_of(places: Places) -> str:
    return tools.quiet("findmnt", "-n", "-o", "SOURCE", str(places.data)).strip()


def _cache(places: Places) -> str:
    """The cache on the instance store; a machine without one, or with a broken one, works all the same."""
    try:
        found = volume.instance_store(places) if tools.have("lsblk") else None
    except BoxError:
        return ""
    return str(found) if found else ""


# -- secrets --


def _password(places: Places) -> str:
    """Make the administrator's password where there is none; says what was done, never the password."""
    from danqing.api.auth import AdminAccount

    if AdminAccount.exists(places.data):
        return _password_of_the_volume(places) if not places.password.exists() else ""
    set_password(places, secrets.token_urlsafe(PASSWORD_BYTES))
    return f"a password was made, in {places.password}"


def _password_of_the_volume(places: Places) -> str:
    """Where an earlier machine left the password on the volume, for root only, it is this machine's too."""
    from danqing.api.sessions import write_secret

    kept = places.data / volume.PASSWORD_COPY
    try:
        if kept.stat().st_uid == os.geteuid() and not kept.is_symlink():
            write_secret(places.password, kept.read_text("utf-8"))
    except OSError:
        return "the password came with the data volume, its text did not"
    return "the password came with the data volume"


def set_password(places: Places, password: str) -> None:
    """Give the administrator a password: its hash to the app, its text into a file for root only. Ends all sessions."""
    from danqing.api.auth import AdminAccount
    from danqing.api.sessions import write_secret

    write_secret(places.password, password + "\n")
    AdminAccount.set_password(places.data, password)
    write_secret(places.data / volume.PASSWORD_COPY, password + "\n")


def _own(places: Places) -> None:
    """What this program made as root in the data folder is the service's."""
    tools.give(places.data, USER)
    for folder in ("secrets", "models", "outputs"):
        path = places.data / folder
        path.mkdir(mode=0o700 if folder == "secrets" else 0o755, exist_ok=True)
        tools.give(path, USER)
        # Root gives away what lies in this very folder, never where a link of the service's leads.
        if folder == "secrets" and not path.is_symlink():
            for file in path.iterdir():
                if file != places.data / volume.PASSWORD_COPY:
                    tools.give(file, USER)


# -- what the launch said --


def _environment(places: Places, told: dict[str, Any], cache: str) -> None:
    """This machine's own settings, for the units that start after this one."""
    lines = {f"DANQING_{name.upper()}": value for name, value in _settings(told).items()}
    minutes = _minutes(told)
    if minutes:
        lines["DANQING_BOX_IDLE_MINUTES"] = str(minutes)
    if cache:
        lines["DANQING_BOX_CACHE"] = cache
    text = "# Written at every boot from the machine's user data; put your own into another file.\n"
    places.local_env.parent.mkdir(parents=True, exist_ok=True)
    replace(places.local_env, text + "".join(f"{name}={value}\n" for name, value in sorted(lines.items())))
    if minutes and os.geteuid() == 0:
        tools.quiet("systemctl", "start", "--no-block", IDLE_TIMER)


def _minutes(told: dict[str, Any]) -> int:
    value = told.get("idle_minutes", 0)
    return value if isinstance(value, int) and 0 < value < 10**6 else 0


def _settings(told: dict[str, Any]) -> dict[str, str]:
    """Settings that the launch asked for; unknown names and bad values are left out, so that the box starts."""
    from danqing.app import ROWS
    from danqing.errors import DanqingError

    known = {row.name: row for row in ROWS}
    found, wanted = {}, told.get("settings")
    for name, value in (wanted if isinstance(wanted, dict) else {}).items():
        with contextlib.suppress(DanqingError):
            if name in known and "\n" not in str(value):
                parsed = known[name].parse(value)
                found[name] = str(parsed).lower() if isinstance(parsed, bool) else str(parsed)
    return found
