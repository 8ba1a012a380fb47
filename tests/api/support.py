"""Small helpers of the API's tests."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
from PIL import Image

SMALL: dict[str, Any] = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7}
FOUR_KEYS = {"error", "detail", "body", "errors"}


def draw(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """POST txt2img with small defaults; the answer with `info` parsed."""
    response = client.post("/sdapi/v1/txt2img", json={**SMALL, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    answer["info"] = json.loads(answer["info"])
    return answer


def base64_of(image: Image.Image) -> str:
    """A picture as PNG in base64."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")


def image_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def assert_four_keys(response: httpx.Response, status: int) -> dict[str, str]:
    assert response.status_code == status, response.text
    body: dict[str, str] = response.json()
    assert set(body) == FOUR_KEYS
    return body


def routes_of(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route in a list of them, those of apps that are mounted below included."""
    for route in found:
        path = prefix + getattr(route, "path", "")
        inside = getattr(route, "original_router", None) or getattr(route, "app", None)
        while inside is not None and not hasattr(inside, "routes"):
            inside = getattr(inside, "app", None)
        if inside is not None:
            yield from routes_of(inside.routes, path)
        for method in getattr(route, "methods", None) or ():
            yield method, path
