"""The web app without the page: routes, error answers and what every request passes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from danqing import __version__
from danqing.api import docs, errors
from danqing.api.auth import Logins
from danqing.api.cards import cards
from danqing.api.context import Context
from danqing.api.controlnet import controlnet
from danqing.api.guard import SHARED, BodyLimit, Envelope, Guard, Squeeze, is_known
from danqing.api.internal import internal
from danqing.api.jobs import told, v1
from danqing.api.limits import UserLimits
from danqing.api.login import LoginPages
from danqing.api.metrics import Metrics
from danqing.api.oidc import Oidc
from danqing.api.options import Options
from danqing.api.pictures import Pictures
from danqing.api.removed import Removed
from danqing.api.request_log import RequestLog
from danqing.api.sdapi import sdapi
from danqing.api.sharing import Sharing
from danqing.api.tasks import Tasks
from danqing.api.webhooks import Webhooks
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.jobs.service import JobService
    from danqing.library.index import Library

MEGABYTE = 2**20


def build(service: JobService, library: Library, settings: Settings, logins: Logins) -> FastAPI:
    """The app with every route but the page's."""
    metrics = Metrics(service)
    stopping = asyncio.Event()
    webhooks = Webhooks(service, settings, lambda view: told(view, "en"))
    options = Options(logins.data)
    removed = Removed(service, options, logins)

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with webhooks.running(), removed.running():
            yield

    app = FastAPI(
        title="Danqing 丹青",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=running,
        # Scripts post JSON without saying so. What browsers may send is asked about its origin by the guard.
        strict_content_type=False,
        middleware=_middlewares(settings, logins, metrics),
    )
    app.state.stopping = stopping
    errors.install(app)
    context = Context(service, library, settings, logins, options, Tasks(), webhooks, removed, stopping)
    app.state.doors = context
    app.state.knows = lambda scope: is_known(logins, scope)
    if logins.required:
        service.limit_owners(UserLimits(logins.users))
    pages, pictures = LoginPages(logins, Oidc.of(settings, logins.users)), Pictures(context)
    app.add_api_route("/login", pages.show, methods=["GET"], include_in_schema=False)
    app.add_api_route("/login", pages.enter, methods=["POST"], include_in_schema=False)
    app.add_api_route("/logout", pages.leave, methods=["POST"], include_in_schema=False)
    app.add_api_route("/login/oidc", pages.elsewhere, methods=["GET"], include_in_schema=False)
    app.add_api_route("/login/oidc/back", pages.back, methods=["GET"], include_in_schema=False)
    # Gradio has a way out of its own, by GET: a link on another site must not log anybody out.
    app.add_api_route("/logout", pages.stay, methods=["GET"], include_in_schema=False)
    for path in ("/docs", "/redoc"):
        app.add_api_route(path, docs.show, methods=["GET"], include_in_schema=False)
    app.add_api_route("/metrics", metrics.show, methods=["GET"], include_in_schema=False)
    app.add_api_route("/pictures/{picture_id}", pictures.show, methods=["GET"])
    app.add_api_route(SHARED + "{secret}", Sharing(context).shared, methods=["GET"])
    for router in (sdapi(context), v1(context), internal(context), controlnet(context), cards(context)):
        app.include_router(router)
    return app


def _middlewares(settings: Settings, logins: Logins, metrics: Metrics) -> list[Middleware]:
    """Outermost first."""
    proxies = settings.get_str("proxy_addresses")
    believed: list[Any] = [Middleware(ProxyHeadersMiddleware, trusted_hosts=proxies)] if proxies else []
    origins = [origin.strip() for origin in settings.get_str("cors_origins").split(",") if origin.strip()]
    limit = settings.get_int("limit_body_mb") * MEGABYTE
    return [
        *believed,
        Middleware(Envelope, metrics=metrics, log=RequestLog(settings.get_str("log_requests"))),
        # Also where no origin is allowed: its presence keeps Gradio from adding a laxer one of its own.
        Middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], allow_credentials=True
        ),
        Middleware(
            Guard,
            logins=logins,
            allowed_hosts=settings.get_str("allowed_hosts"),
            origins=frozenset(origins),
            rate=settings.get_float("limit_requests_a_second"),
        ),
        Middleware(BodyLimit, maximum=limit),
        Middleware(Squeeze),
    ]
