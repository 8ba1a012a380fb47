"""Routes beside /sdapi that clients use, and those that steer the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from danqing.api.tasks import LIMIT, Tasks
from tests.api.conftest import FAKE
from tests.api.support import assert_four_keys, base64_of, draw
from tests.conftest import Server, start_server


@pytest.fixture
def client(quick_server: Server) -> Iterator[httpx.Client]:
    with quick_server.client() as client:
        yield client


def ask(client: httpx.Client, task: str, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = client.post("/internal/progress", json={"id_task": task, **more}).json()
    assert list(told) == [
        "active",
        "queued",
        "completed",
        "progress",
        "eta",
        "live_preview",
        "id_live_preview",
        "textinfo",
    ]
    return told


def test_ping(client: httpx.Client) -> None:
    assert client.get("/internal/ping").json() == {}


def test_a_task_from_waiting_to_done(quick_server: Server, client: httpx.Client) -> None:
    task = "task(test-ABCDEFG)"
    assert ask(client, task) == ask(client, "no such task")
    fields = {"force_task_id": task, "steps": 150, "n_iter": 8}
    thread = threading.Thread(target=lambda: draw(quick_server.client(), **fields))
    thread.start()
    seen: dict[str, Any] = {}
    end = time.monotonic() + 30
    while not (seen.get("active") and seen["live_preview"]) and time.monotonic() < end:
        seen = ask(client, task)
    assert seen["live_preview"].startswith("data:image/png;base64,")
    assert 0 < seen["progress"] <= 1
    assert task in client.get("/internal/pending-tasks").json()["tasks"]
    assert ask(client, task, live_preview=False)["live_preview"] is None
    client.post("/sdapi/v1/interrupt")
    thread.join(30)
    assert ask(client, task)["completed"] is True
    assert client.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}


def test_tasks_are_bounded_and_apart() -> None:
    tasks = Tasks()
    assert tasks.add("a", None, "txt2img", "job").startswith("task(txt2img-")
    tasks.add("a", "same", "txt2img", "one")
    tasks.add("b", "same", "txt2img", "two")
    assert (tasks.job("a", "same"), tasks.job("b", "same"), tasks.job("c", "same")) == ("one", "two", None)
    for number in range(LIMIT):
        tasks.add("c", str(number), "txt2img", "x")
    assert tasks.job("a", "same") is None


def test_sysinfo_names_no_folder(quick_server: Server, client: httpx.Client) -> None:
    text = client.get("/internal/sysinfo").text
    assert '"Python"' in text
    assert str(quick_server.data) not in text
    assert "attachment" in client.get("/internal/sysinfo-download").headers["content-disposition"]
    assert client.get("/internal/sysinfo", params={"attachment": True}).json()["CPU"]["count"] >= 1


def test_other_internal_routes(client: httpx.Client) -> None:
    assert set(client.get("/internal/profile-startup").json()) == {"total", "records"}
    assert {"name": "CLIP_stop_at_last_layers", "label": "Clip skip"} in client.get(
        "/internal/quicksettings-hint"
    ).json()
    assert client.get("/internal/nothing").status_code == 404
    assert client.get("/internal/progress").status_code == 405
    assert client.post("/internal/progress", json={}).status_code == 422


PICTURE = base64_of(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize(
    ("path", "sent", "status", "error"),
    [
        ("interrogate", {"image": PICTURE}, 422, "InterrogatorMissing"),
        ("interrogate", {"image": PICTURE, "model": "deepdanbooru"}, 422, "InterrogatorMissing"),
        ("interrogate", {"image": PICTURE, "model": "nope"}, 404, "HTTPException"),
        ("interrogate", {}, 404, "HTTPException"),
        ("train/embedding", {}, 404, "TrainDataUnknown"),
        ("train/hypernetwork", {}, 404, "TrainDataUnknown"),
        ("server-stop", {}, 404, "HTTPException"),
        ("server-kill", {}, 404, "HTTPException"),
        ("server-restart", {}, 404, "HTTPException"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(
    client: httpx.Client, path: str, sent: dict[str, Any], status: int, error: str
) -> None:
    assert assert_four_keys(client.post(f"/sdapi/v1/{path}", json=sent), status)["error"] == error


def test_a_null_picture_gets_the_usual_list(client: httpx.Client) -> None:
    assert client.post("/sdapi/v1/interrogate", json={"image": None}).status_code == 422


@pytest.mark.parametrize("path", ["unload-checkpoint", "reload-checkpoint"])
def test_models_are_the_engines_business(client: httpx.Client, path: str) -> None:
    answer = client.post(f"/sdapi/v1/{path}")
    assert (answer.status_code, answer.json()) == (200, {})
    draw(client)


def test_an_administrator_stops_the_server(tmp_path: Any) -> None:
    more = {"DANQING_ENGINE_COMMAND": FAKE, "DANQING_API_SERVER_STOP": "true", "NOTIFY_SOCKET": ""}
    running = start_server(tmp_path / "data", "--users", "login", environment=more)
    try:
        with running.client() as stranger:
            assert stranger.post("/sdapi/v1/server-stop").status_code == 401
            token = made(running, "draw")
            refused = stranger.post("/sdapi/v1/server-stop", headers={"Authorization": f"Bearer {token}"})
            assert assert_four_keys(refused, 403)["error"] == "NotAllowed"
        with running.client(headers={"Authorization": f"Bearer {made(running, 'admin')}"}) as admin:
            assert admin.post("/sdapi/v1/server-restart").status_code == 501
            answer = admin.post("/sdapi/v1/server-stop")
            assert (answer.status_code, answer.text) == (200, "Stopping.")
        assert running.process.wait(20) == 0
    finally:
        running.stop()


def made(server: Server, scope: str) -> str:
    from danqing.api.tokens import Tokens

    return Tokens(server.data).new("test", [scope])[0]
