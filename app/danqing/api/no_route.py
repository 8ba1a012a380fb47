"""Routes below a prefix, and what answers where none is: the page is mounted at the root and would answer otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from danqing.api.errors import SafeJson

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


Handlers = Mapping[str, Callable[..., Awaitable[Response]]]
"""By path below the prefix."""


def fill(router: APIRouter, reading: Handlers, acting: Handlers) -> None:
    """Give a router its routes, by GET and by POST, and close it."""
    for method, handlers in (("GET", reading), ("POST", acting)):
        for path, handler in handlers.items():
            router.add_api_route(path, handler, methods=[method])
    close(router)


def close(router: APIRouter) -> None:
    """Add the last route of a router: 404, or 405 where the path has a route for another method; both plain."""
    routes = [route for route in router.routes if isinstance(route, Route)]

    async def answer(request: Request) -> Response:
        path = request.scope["path"]
        known = sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})
        if known:
            return SafeJson({"detail": "Method Not Allowed"}, 405, {"Allow": ", ".join(known)})
        return SafeJson({"detail": "Not Found"}, 404)

    router.add_api_route("/{rest:path}", answer, methods=METHODS, include_in_schema=False)
