"""The OpenAPI document: every route told, examples that work, and nothing that it allows makes the server fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from tests.api.conftest import FAKE
from tests.conftest import Server, start_server

LIMITS = {"SIDE": "512", "STEPS": "20", "IMAGES": "4", "BATCH": "2", "PIXELS": "262144", "PROMPT": "500"}


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose limits keep every request short."""
    more = {f"DANQING_LIMIT_{name}": value for name, value in LIMITS.items()}
    folder = tmp_path_factory.mktemp("small") / "data"
    running = start_server(folder, environment={"DANQING_ENGINE_COMMAND": FAKE, **more})
    yield running
    running.stop()


@pytest.fixture(scope="module")
def described(small_server: Server) -> Any:
    schema = schemathesis.openapi.from_url(f"{small_server.base_url}/openapi.json")
    return schema.exclude(path_regex="^/gradio")


def test_nothing_makes_the_server_fail(described: Any) -> None:
    """A few bodies and queries for every route, made from the document: no answer is a 5xx, none takes long."""
    tried = 0
    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.validate_response(case.call(timeout=30), checks=(not_a_server_error,))

        attempt()
    assert tried > 150


def test_every_body_has_an_example(small_server: Server) -> None:
    with small_server.client() as client:
        told = client.get("/openapi.json").json()
        parts = told["components"]["schemas"]
        answers = {}
        for path, methods in told["paths"].items():
            body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
            if body is None or "gradio" in path or path.startswith("/controlnet"):
                continue
            for example in examples(body["schema"], parts):
                answers[path] = client.post(path, json=example)
    for path in (
        "/sdapi/v1/txt2img",
        "/sdapi/v1/img2img",
        "/sdapi/v1/extra-single-image",
        "/sdapi/v1/extra-batch-images",
    ):
        assert answers[path].status_code == 200, answers[path].text
    for path in ("/sdapi/v1/png-info", "/sdapi/v1/options", "/v1/images/generations", "/internal/progress"):
        assert answers[path].status_code == 200, answers[path].text
    assert answers["/v1/jobs"].status_code == 202


def examples(body: dict[str, Any], parts: dict[str, Any]) -> list[Any]:
    found = list(body.get("examples", ()))
    for one in (body, *body.get("oneOf", ())):
        found += parts.get(one.get("$ref", "").rpartition("/")[2], {}).get("examples", ())
    return found


def test_paths_name_their_parameters(small_server: Server) -> None:
    with small_server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, told in methods.items():
            named = {row["name"] for row in told.get("parameters", ()) if row["in"] == "path"}
            wanted = {piece[1:-1] for piece in path.split("/") if piece.startswith("{")}
            assert named == wanted, f"{method} {path}"


def test_it_still_answers(small_server: Server) -> None:
    with httpx.Client(base_url=small_server.base_url, trust_env=False) as client:
        assert client.get("/readyz").status_code == 200
