"""From an error to an answer: one shape of four keys for every error of the API, as its clients know it.

`error` names the kind, `detail` and `errors` carry the sentence, `body` is empty. Where the WebUI has a fixed text for a
case (`ApiError`), clients get that text.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from danqing.errors import DanqingError, Language, language_of_headers
from danqing.reasons import in_chinese

if TYPE_CHECKING:
    from fastapi import FastAPI

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger(__name__)


class ErrorAnswer(BaseModel):
    """The four keys of an error. `detail` or `errors` has the sentence."""

    error: str
    detail: str
    body: str = ""
    errors: str


RESPONSES: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorAnswer, "description": "What was wrong"}}
"""For the API's own description."""


DIALECT = frozenset({"/v1/models", *(f"/v1/images/{name}" for name in ("generations", "edits", "variations"))})
"""Paths at which errors have the OpenAI API's shape, and those below the first."""


def is_dialect(path: str) -> bool:
    return path in DIALECT or path.startswith("/v1/models/")


class ApiError(Exception):
    """A case whose exact words the WebUI's clients know.

    Args:
        status: HTTP status.
        error: name of the kind: "HTTPException" puts `text` into `detail`, every other one into `errors`.
        text: the words.
    """

    def __init__(self, status: int, error: str, text: str) -> None:
        super().__init__(text)
        self.status, self.error, self.text = status, error, text


class SafeJson(Response):
    """JSON in ASCII: any text can be sent, broken surrogates included."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def four_keys(error: str, detail: str, errors: str) -> dict[str, str]:
    return {"error": error, "detail": detail, "body": "", "errors": errors}


def in_dialect(status: int, message: str, code: str | None = None, param: str | None = None) -> Response:
    """An error as the OpenAI API tells it."""
    status = status if status >= 400 else 500
    kind = "invalid_request_error" if status < 500 else "server_error"
    return SafeJson({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


def answer_to(error: DanqingError, language: Language) -> Response:
    """The response that tells `error` in `language`."""
    text = error.text(language)
    name = "".join(word.capitalize() for word in error.code.split("_"))
    headers: dict[str, str] = {}
    if error.code in ("too_many_logins", "too_many_requests"):
        headers["Retry-After"] = str(error.params.get("seconds", 1))
    elif error.status in (429, 503):
        headers["Retry-After"] = "2"
    # Statuses below 100 are exit codes: at a door they are our own fault.
    status = error.status if error.status >= 400 else 500
    return SafeJson(four_keys(name, text, text), status, headers)


def answer_at(path: str, error: DanqingError, language: Language) -> Response:
    """As `answer_to`, but in the OpenAI API's shape at its paths: for what is refused before a route is asked."""
    answer = answer_to(error, language)
    if not is_dialect(path):
        return answer
    told = in_dialect(answer.status_code, error.text(language), error.code)
    if "retry-after" in answer.headers:
        told.headers["Retry-After"] = answer.headers["retry-after"]
    return told


def language_of_request(request: Request) -> Language:
    return language_of_headers(request.headers)


async def on_danqing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DanqingError)
    return answer_to(error, language_of_request(request))


async def on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    http = error.error == "HTTPException"
    return SafeJson(four_keys(error.error, error.text if http else "", "" if http else error.text), error.status)


async def on_http_error(request: Request, error: Exception) -> Response:
    """404 and 405 of the router stay plain; what our own handlers raise gets four keys."""
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if isinstance(cause, DanqingError):
        return answer_to(cause, language_of_request(request))
    if error.status_code in (404, 405):
        return SafeJson({"detail": error.detail}, error.status_code, dict(error.headers or {}))
    return SafeJson(four_keys("HTTPException", str(error.detail), ""), error.status_code, dict(error.headers or {}))


async def on_wrong_types(request: Request, error: Exception) -> Response:
    """FastAPI's list, without the input: it may be a megabyte, or hold what no JSON can say."""
    assert isinstance(error, RequestValidationError)
    say = in_chinese if language_of_request(request) == "zh" else str
    rows = [{"type": row["type"], "loc": list(row["loc"]), "msg": say(row["msg"])} for row in error.errors()]
    return SafeJson({"detail": rows}, 422)


async def on_anything(request: Request, error: Exception) -> Response:
    """What nobody expected: a reference that the log also holds, nothing of the inside."""
    reference = uuid4().hex[:12]
    # The route, as in the line of the request: a path may hold the secret of a link.
    route = str(getattr(request.scope.get("route"), "path", "")) or "none"
    log.error("unexpected error", reference=reference, route=route, exc_info=error)
    return answer_to(DanqingError("internal", reference=reference), language_of_request(request))


HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    DanqingError: on_danqing_error,
    ApiError: on_api_error,
    HTTPException: on_http_error,
    RequestValidationError: on_wrong_types,
    Exception: on_anything,
}


def install(app: FastAPI) -> None:
    """Register every handler of the table."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
