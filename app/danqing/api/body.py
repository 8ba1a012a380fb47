"""JSON bodies that hold nothing that JSON cannot say or a file cannot keep.

Python's parser takes NaN and unpaired surrogates; both are refused here, once, before any route reads a field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from danqing.errors import DanqingError

DEPTH = 64


class StrictRequest(Request):
    """A request whose JSON is checked as it is read."""

    async def json(self) -> Any:
        body = await self.body()
        try:
            value = json.loads(body)
            check(value)
        except json.JSONDecodeError:
            raise
        except DanqingError as error:
            # FastAPI lets only its own kind of error through from here; the handler finds ours behind it.
            raise HTTPException(error.status) from error
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error)[:200], "", 0) from None
        return value


class StrictRoute(APIRoute):
    """A route that reads its body through `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


def check(value: Any, field: str = "", depth: int = 0) -> None:
    """Refuse what cannot be stored, anywhere in a JSON value.

    Raises:
        DanqingError: `not_a_number`, `broken_text` or `invalid_field` (nested too deep), with the path of the place.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise DanqingError("not_a_number", field=field or "body")
    if isinstance(value, str):
        check_text(value, field or "body")
    elif isinstance(value, dict | list):
        if depth >= DEPTH:
            raise DanqingError("invalid_field", field=field[:200], reason=f"nested deeper than {DEPTH}")
        rows = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in rows:
            if isinstance(key, str):
                check_text(key, field or "body")
            check(inner, f"{field}.{key}".lstrip(".") if len(field) < 200 else field, depth + 1)


def check_text(text: str, field: str) -> None:
    """
    Raises:
        DanqingError: `broken_text`, for unpaired surrogates.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DanqingError("broken_text", field=field) from None
