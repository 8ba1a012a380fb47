"""Whether the web service may reach other machines. Its unit forbids it: a page that cannot call out cannot leak.

Some settings need it (`NEED_IT`); an administrator opens the way by `danqing box outbound on`, a drop-in of systemd.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from danqing.api.settings import ROWS as API_ROWS
from danqing.box import tools
from danqing.box.places import Places
from danqing.gallery.settings import ROWS as GALLERY_ROWS
from danqing.settings import Settings

DROP_IN = """# Written by `danqing box outbound on`.
[Service]
IPAddressDeny=
IPAddressAllow=
"""
"""Empty assignments take back what the unit says (systemd.resource-control(5))."""

NEED_IT = ("url_inputs", "webhooks", "oidc_issuer", "s3_bucket")
"""Settings that cannot work without a way out."""

ENVIRONMENT = ("etc/danqing/danqing.env", "etc/danqing/local.env")
"""What the unit reads, later files winning."""


def drop_in(places: Places) -> Path:
    """Where systemd reads it."""
    return places.root / "etc/systemd/system/danqing-web.service.d/outbound.conf"


def is_open(places: Places) -> bool:
    """Whether the way out is open."""
    return drop_in(places).is_file()


def turn(places: Places, on: bool) -> bool:
    """Open or close the way out and restart the web service; jobs go on after it. False when it was so already.

    Raises:
        BoxError: `not_root`, `tool_failed`.
    """
    tools.need_root(f"outbound {'on' if on else 'off'}")
    if is_open(places) == on:
        return False
    path = drop_in(places)
    if on:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(DROP_IN, "utf-8")
        path.chmod(0o644)
    else:
        path.unlink()
    if tools.have("systemctl") and Path("/run/systemd/system").is_dir():
        tools.run("systemctl", "daemon-reload")
        tools.run("systemctl", "try-restart", "danqing-web.service")
    return True


def wanting(places: Places, data: Path) -> list[str]:
    """Settings in force that need the way out."""
    rows = [row for row in (*API_ROWS, *GALLERY_ROWS) if row.name in NEED_IT]
    settings = Settings.load(rows, data, environ=_environment(places), known=NEED_IT)
    return [name for name, value in settings.values().items() if value]


def _environment(places: Places) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ENVIRONMENT:
        with contextlib.suppress(OSError):
            lines = (places.root / name).read_text("utf-8").splitlines()
            found |= dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return found
