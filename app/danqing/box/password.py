"""The administrator's password: showing it to root, making another."""

from __future__ import annotations

import secrets

from danqing.box import tools
from danqing.box.errors import BoxError
from danqing.box.firstboot import PASSWORD_BYTES, set_password
from danqing.box.local import data_folder
from danqing.box.places import USER, Places

LEAST = 10
WEB = "danqing-web.service"


def show(places: Places) -> str:
    """The password.

    Raises:
        BoxError: `not_root`, `password_unknown`.
    """
    tools.need_root("password")
    from danqing.api.auth import ADMIN, AdminAccount

    try:
        text = places.password.read_text("utf-8").strip()
    except OSError:
        raise BoxError("password_unknown") from None
    # A restored backup may have brought another one.
    if AdminAccount.exists(places.data) and not AdminAccount(places.data).check(ADMIN, text):
        raise BoxError("password_unknown")
    return text


def reset(places: Places, wanted: str = "") -> str:
    """Another password, made up where none is given; every login ends. The new one.

    Raises:
        BoxError: `not_root`, `password_weak`.
    """
    tools.need_root("password --reset")
    if wanted and len(wanted) < LEAST:
        raise BoxError("password_weak", least=LEAST)
    password = wanted or secrets.token_urlsafe(PASSWORD_BYTES)
    set_password(places, password)
    tools.give(data_folder(places) / "secrets" / "admin.hash", USER)
    # The web process read the old one when it started.
    tools.quiet("systemctl", "try-restart", WEB)
    return password
