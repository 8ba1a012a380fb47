"""The house put together: settings of all rooms, the services, and the web app with its doors and the page.

Importing this is cheap; `build` imports FastAPI and Gradio.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danqing import request as request_words
from danqing.api import settings as api_settings
from danqing.engine import settings as engine_settings
from danqing.gallery import settings as gallery_settings
from danqing.jobs import rules
from danqing.jobs import settings as jobs_settings
from danqing.library import settings as library_settings
from danqing.settings import Setting, Settings
from danqing.train import settings as train_settings
from danqing.ui import settings as ui_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.api.auth import Logins
    from danqing.front import Door
    from danqing.jobs.service import JobService
    from danqing.library.index import Library

ROWS: tuple[Setting, ...] = (
    *request_words.LIMITS,
    *jobs_settings.ROWS,
    *rules.ROWS,
    *gallery_settings.ROWS,
    *engine_settings.ROWS,
    *api_settings.ROWS,
    *library_settings.ROWS,
    *ui_settings.ROWS,
    *train_settings.ROWS,
)
"""Every setting of every room."""


def load_settings(data: Path, overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings in force for the data folder `data`.

    Raises:
        DanqingError: `bad_setting`.
    """
    return Settings.load(ROWS, data, overrides)


def configure_logging(settings: Settings) -> None:
    from danqing import log

    log.configure(settings.get_str("log_format"), settings.get_str("log_level"))


def rooms(data: Path, settings: Settings) -> tuple[Library, JobService]:
    """The library and the queue over one data folder, not yet started."""
    from danqing.jobs.service import JobService
    from danqing.library.index import Library
    from danqing.plugins.loading import Plugins, activate

    library, plugins = Library(data), activate(Plugins(data, "web"))
    plugins.find()
    command = shlex.split(settings.get_str("engine_command")) or None
    return library, JobService(data, settings, library=library, engine_command=command, plugins=plugins)


def logins(door: Door, settings: Settings) -> Logins:
    """Who is asked for a login at `door`, and how it is checked."""
    from danqing.api.auth import AdminAccount, Logins, WithMachine
    from danqing.api.users import Users

    if not door.login:
        return Logins.at(door.data, settings, None, door.host)
    AdminAccount(door.data)  # makes the first password
    users = Users(door.data)
    return Logins.at(door.data, settings, WithMachine(users, door.data), door.host, users)


def build(service: JobService, library: Library, settings: Settings, auth: Logins) -> FastAPI:
    """The web app: API, logins, pictures, metrics and the page."""
    from danqing import log
    from danqing.api import doors
    from danqing.api.tokens import ADMIN
    from danqing.desk import Desk
    from danqing.ui.importing import without_stubs

    with without_stubs():
        from danqing.ui import page
        from danqing.ui.context import UiContext

    app = doors.build(service, library, settings, auth)
    doors_context, cache = app.state.doors, auth.data / "cache" / "gradio"
    context = UiContext(
        service,
        library,
        settings,
        auth.owner_of,
        cache,
        doors_context.options,
        doors_context.client,
        steers=lambda request: auth.may(request, ADMIN),
        desk=Desk(log.tail()),
        logins=auth,
    )
    page.mount(app, context)
    return app
