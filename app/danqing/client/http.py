"""A server's /v1 over HTTP: JSON in and out, files, events, waiting when it is busy."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from uuid import uuid4

from danqing.errors import DanqingError, environment_language

SECONDS = 60.0
"""Longest silence of the server; a stream of events says something more often."""

BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
WAIT_MOST = 5.0


class Server:
    """A server that draws.

    Args:
        url: its address; a user and a password in it (`http://admin:PASSWORD@box`) are sent as HTTP Basic.
        token: a bearer token, "" for none.
        patience: seconds for which a server that is busy or does not answer is asked again.
    """

    def __init__(self, url: str, token: str = "", patience: float = 0.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DanqingError("invalid_field", field="--url", reason="http://HOST:PORT")
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self.patience = patience
        self._headers: dict[str, str] = {"Accept-Language": environment_language()}
        if not token.isprintable() or not token.isascii():
            raise DanqingError("invalid_field", field="--token", reason="a token of `danqing token new`")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON that a route answers.

        Raises:
            DanqingError: `server_unreachable`, `server_refused` (4xx) or `server_failed` (5xx, and what is no Danqing).
        """
        content = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        return self._json(self._patiently(method, path, content, {**kind, **(headers or {})}))

    def job(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """As `ask`, of a route that answers with a job."""
        found = self.ask(method, path, body, headers)
        if not {"id", "state"} <= found.keys():
            raise self._stranger(json.dumps(found).encode())
        return found

    def upload(self, path: str, field: str, name: str, content: bytes) -> Any:
        """Send one file as a form; the JSON that the route answers.

        Raises:
            DanqingError: as `ask`.
        """
        line = uuid4().hex
        shown = name.replace("\\", "_").replace('"', "%22").replace("\r", "").replace("\n", "")
        head = f'--{line}\r\nContent-Disposition: form-data; name="{field}"; filename="{shown}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{line}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={line}"}
        return self._json(self._patiently("POST", quote(path), body, kind))

    def _json(self, body: bytes) -> Any:
        """An object. Whatever else stands at the address, a page of a proxy's, say, is no Danqing."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._stranger(body)
        return found

    def _stranger(self, body: bytes) -> DanqingError:
        return DanqingError("server_failed", url=self.url, status=200, reason=_reason(body)[:100], busy=0)

    def file(self, path: str) -> bytes:
        """The bytes that a route answers.

        Raises:
            DanqingError: as `ask`.
        """
        return self._patiently("GET", path, None, {})

    def events(self, path: str) -> Iterator[Any]:
        """The JSON of every event of a stream, until it ends.

        Raises:
            DanqingError: as `ask`; `server_unreachable` also when the stream breaks.
        """
        try:
            with self._open("GET", path, None, {}) as answer:
                for line in answer:
                    if line.startswith(b"data: "):
                        yield json.loads(line[len(b"data: ") :])
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._silent(error) from None

    def _patiently(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> bytes:
        end, wait = time.monotonic() + self.patience, 0.5
        while True:
            try:
                with self._open(method, path, content, headers) as answer:
                    body: bytes = answer.read()
                    return body
            except DanqingError as error:
                if error.params.get("busy") != 1 or time.monotonic() + wait > end:
                    raise
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() + wait > end:
                    raise self._silent(error) from None
            time.sleep(wait)
            wait = min(wait * 2, WAIT_MOST)

    def _open(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.url + path, content, {**self._headers, **headers}, method=method)
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        return answer

    def _refusal(self, error: urllib.error.HTTPError) -> DanqingError:
        code = "server_refused" if error.code < 500 else "server_failed"
        busy = int(error.code in BUSY)
        return DanqingError(code, url=self.url, status=error.code, reason=_reason(error.read(10_000)), busy=busy)

    def _silent(self, error: Exception) -> DanqingError:
        reason = getattr(error, "reason", None) or error
        return DanqingError("server_unreachable", url=self.url, reason=str(reason) or type(error).__name__)


def _reason(body: bytes) -> str:
    """The sentence in an error's answer, whatever its shape."""
    try:
        told = json.loads(body)
        detail = told["detail"]
        if isinstance(detail, list):
            row = detail[0]
            return f"{'.'.join(str(part) for part in row['loc'][1:])}: {row['msg']}"
        return str(detail or told.get("errors") or told)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return body.decode("utf-8", "replace").strip()[:300]
