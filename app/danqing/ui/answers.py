"""What the page's routes read and answer with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from danqing.errors import DanqingError
from danqing.ui.words import language_for

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.ui.context import UiContext


def reader(request: Request) -> Language:
    """The language of whoever sent this."""
    return language_for(request.headers)


async def body_of(request: Request) -> dict[str, Any]:
    """
    Raises:
        DanqingError: `invalid_field`, for what is no JSON object.
    """
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DanqingError("invalid_field", field="body", reason="JSON object")
    return found


def texts_of(wanted: Mapping[str, Any], name: str) -> list[str]:
    """The texts of a list in a body; none where it is missing.

    Raises:
        DanqingError: `invalid_field`, for what is no list.
    """
    found = wanted.get(name, [])
    if not isinstance(found, list):
        raise DanqingError("invalid_field", field=name, reason="Input should be a valid list")
    return [str(one) for one in found]


def html(text: str) -> Response:
    """A piece of the page."""
    return Response(text, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"})


def require_admin(context: UiContext, request: Request) -> None:
    """
    Raises:
        DanqingError: `not_allowed`.
    """
    if not context.steers(request):
        raise DanqingError("not_allowed", scope="admin")
