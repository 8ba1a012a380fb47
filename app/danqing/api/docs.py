"""/docs and /redoc: the routes and their fields on one page of our own, because the usual ones load scripts from elsewhere."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

PAGE = Path(__file__).parent / "pages" / "docs.html"


async def show(request: Request) -> Response:
    """GET /docs."""
    schema: dict[str, Any] = request.app.openapi()
    routes = [
        _route(schema, method.upper(), path, told)
        for path, methods in schema["paths"].items()
        for method, told in methods.items()
    ]
    info = schema["info"]
    page = Template(PAGE.read_text("utf-8")).substitute(
        title=escape(info["title"]), version=escape(info["version"]), routes="\n".join(routes)
    )
    return HTMLResponse(page)


def _route(schema: dict[str, Any], method: str, path: str, told: dict[str, Any]) -> str:
    text = escape(told.get("description") or told.get("summary") or "")
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td><code>{escape(default)}</code></td></tr>"
        for name, kind, default in _fields(schema, told)
    )
    table = f"<table><tr><th>Field</th><th>Type</th><th>Default</th></tr>{rows}</table>" if rows else ""
    head = f'<b class="{method}">{method}</b> <code>{escape(path)}</code> <span>{text}</span>'
    return f"<details><summary>{head}</summary>{table}</details>"


def _fields(schema: dict[str, Any], told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, type and default of the query's and the body's fields."""
    found = {row["name"]: row.get("schema", {}) for row in told.get("parameters", ())}
    body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = body.get("$ref", "").rpartition("/")[2]
    found |= schema.get("components", {}).get("schemas", {}).get(name, {}).get("properties", {})
    return [(key, _kind(row), json.dumps(row["default"]) if "default" in row else "") for key, row in found.items()]


def _kind(row: dict[str, Any]) -> str:
    kinds = [one.get("type", "any") for one in row.get("anyOf", [row])]
    return " or ".join(kinds)
