"""Routes of the system tab, for whoever looks after the machine, and of plug-ins and their tabs."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from danqing.engine import settings as engine_settings
from danqing.engine.compile import accelerated
from danqing.errors import DanqingError
from danqing.library import chores
from danqing.plugins import Reader
from danqing.plugins.loading import active
from danqing.settings import Settings
from danqing.ui import pages_office, plugs, service_settings
from danqing.ui.answers import body_of, html, reader, require_admin
from danqing.ui.words_office import PHASES

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.errors import Language
    from danqing.ui.context import UiContext

ALLOCATOR = ("alloc_max_split_mb", "alloc_expandable", "alloc_collect_at")


class Office:
    """The routes, for one app."""

    def __init__(self, context: UiContext) -> None:
        self.context = context

    def add_to(self, app: FastAPI) -> None:
        """Hangs the routes into `app`."""
        for path, method, handler in (
            ("/ui/me", "GET", self.me),
            ("/ui/system", "GET", self.system),
            ("/ui/system/facts", "GET", self.facts),
            ("/ui/system/allocator", "POST", self.allocator),
            ("/ui/system/restart", "POST", self.restart),
            ("/ui/system/bundle", "GET", self.bundle),
            ("/ui/plugins", "GET", self.plugins),
            ("/ui/plugins", "POST", self.switch),
            ("/ui/plug/{name}", "GET", self.tab),
            ("/ui/plug/{name}", "POST", self.act),
        ):
            app.add_api_route(path, handler, methods=[method], include_in_schema=False)

    async def me(self, request: Request) -> Response:
        """What the page shows to whoever asks: the administrators' tabs, and the plug-ins that are at work."""
        known = await asyncio.to_thread(plugs.tabs)
        return JSONResponse({"admin": self.context.steers(request), "tabs": list(known)})

    # -- the machine --

    async def system(self, request: Request) -> Response:
        """The system tab."""
        require_admin(self.context, request)
        desk, values = self.context.desk, self._allocator()
        pinned = [name for name in ALLOCATOR if engine_row(name).variable in os.environ]
        versions = await asyncio.to_thread(desk.versions) if desk else {}
        restarts = desk is not None and desk.restarts
        return html(pages_office.system(values, pinned, versions, restarts, reader(request)))

    def _allocator(self) -> dict[str, Any]:
        rows = [engine_row(name) for name in ALLOCATOR]
        return dict(Settings.load_known(rows, self.context.data).values())

    async def facts(self, request: Request) -> Response:
        """How the machine and the queue are, and the lines of the log behind `after`."""
        require_admin(self.context, request)
        try:
            after = int(request.query_params.get("after", "0"))
        except ValueError:
            after = 0
        return JSONResponse(await asyncio.to_thread(self._facts, after, reader(request)))

    def _facts(self, after: int, language: Language) -> dict[str, Any]:
        service, desk = self.context.service, self.context.desk
        readiness, disk = service.readiness(), shutil.disk_usage(self.context.data)
        trouble = readiness.error or readiness.warning
        number, lines = desk.lines(after) if desk else (0, [])
        return {
            "time": time.time(),
            "ready": readiness.ready,
            "device": readiness.device,
            "compiled": accelerated(readiness.acceleration)[language == "zh"],
            "error": trouble.text(language) if trouble else "",
            "phases": [
                {
                    "name": PHASES.get(one.name, (one.name,) * 2)[language == "zh"],
                    "state": one.state,
                    "seconds": one.seconds,
                }
                for one in readiness.phases
            ],
            "stats": service.stats(),
            "disk": {"total": disk.total, "free": disk.free},
            "log": {"number": number, "lines": lines},
        }

    async def allocator(self, request: Request) -> Response:
        """Keeps the allocator's settings and has the engine begin anew with them."""
        require_admin(self.context, request)
        wanted = await body_of(request)
        rows = [engine_row(name) for name in ALLOCATOR]
        told = {name: wanted[name] for name in ALLOCATOR if name in wanted}
        await asyncio.to_thread(service_settings.keep_rows, self.context.data, rows, told)
        await self.context.service.restart_engine()
        return JSONResponse({"words": engine_settings.allocator_words(Settings.load_known(rows, self.context.data))})

    async def restart(self, request: Request) -> Response:
        """Restarts the engine, or the whole service where something starts it again."""
        require_admin(self.context, request)
        wanted, desk = await body_of(request), self.context.desk
        if wanted.get("what") == "service":
            if desk is None or not desk.restarts:
                raise DanqingError("not_available", feature="restart")
            asyncio.get_running_loop().call_later(0.3, desk.restart)
        else:
            await self.context.service.restart_engine()
        return JSONResponse({})

    async def bundle(self, request: Request) -> Response:
        """A .tar.gz for whoever helps."""
        require_admin(self.context, request)
        if self.context.desk is None:
            raise DanqingError("not_available", feature="bundle")
        content = await asyncio.to_thread(self._bundle)
        name = time.strftime("danqing-%Y%m%d-%H%M%S.tar.gz")
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Response(content, media_type="application/gzip", headers=headers)

    def _bundle(self) -> bytes:
        assert self.context.desk is not None
        facts = self._facts(0, "en")
        del facts["log"]
        plugins = [asdict(one) for one in active().all()]
        works = [asdict(one) for one in chores.all_of(self.context.data)]
        told = {"status.json": facts, "settings.json": self.context.settings.values()}
        return self.context.desk.bundle({**told, "plugins.json": plugins, "chores.json": works})

    # -- plug-ins --

    async def plugins(self, request: Request) -> Response:
        """The list of plug-ins."""
        found = await asyncio.to_thread(active().all)
        return html(pages_office.plugins(found, self.context.steers(request), reader(request)))

    async def switch(self, request: Request) -> Response:
        """Switches a plug-in on or off, or looks for new ones."""
        require_admin(self.context, request)
        wanted = await body_of(request)
        if wanted.get("look") is True:
            await asyncio.to_thread(active().find)
        else:
            await asyncio.to_thread(active().switch, str(wanted.get("name", "")), wanted.get("on") is True)
        return JSONResponse({})

    async def tab(self, request: Request) -> Response:
        """A plug-in's tab."""
        return await self._drawn(request, None)

    async def act(self, request: Request) -> Response:
        """What a form on a plug-in's tab does."""
        body = await body_of(request)
        return await self._drawn(request, {str(key): str(value)[:100_000] for key, value in body.items()})

    async def _drawn(self, request: Request, values: dict[str, str] | None) -> Response:
        """
        Raises:
            DanqingError: `unknown_plugin`; `plugin_failed`, which is switched off then.
        """
        name = request.path_params["name"]
        found = (await asyncio.to_thread(plugs.tabs)).get(name)
        if found is None:
            raise DanqingError("unknown_plugin", name=name[:60], known="-")
        plugin, tab = found
        looks = Reader(reader(request), self.context.owner_of(request), self.context.data)
        try:
            if values is None or tab.act is None:
                return html(await asyncio.to_thread(tab.render, looks))
            return html(await asyncio.to_thread(tab.act, looks, values))
        except DanqingError:
            raise
        except Exception as error:  # noqa: BLE001 - the plug-in's fault ends the plug-in, the page lives
            active().fail(plugin, f"tab {tab.name}", error)
            raise DanqingError("plugin_failed", name=plugin, reason=f"{type(error).__name__}: {error}"[:200]) from None


def engine_row(name: str) -> Any:
    """A row of the engine's settings."""
    return next(row for row in engine_settings.ROWS if row.name == name)
