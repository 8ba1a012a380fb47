"""/v1: jobs that are submitted, watched, ended, and never drawn twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.conftest import FAKE
from tests.api.support import assert_four_keys, base64_of
from tests.conftest import Server, start_server

JOB: dict[str, Any] = {"kind": "txt2img", "prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7}
LONG = {**JOB, "steps": 150, "n_iter": 20}


@pytest.fixture
def client(quick_server: Server) -> Iterator[httpx.Client]:
    with quick_server.client() as client:
        yield client


def submit(client: httpx.Client, key: str = "", **fields: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    response = client.post("/v1/jobs", json={**JOB, **fields}, headers=headers)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    return job


def events(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]


def test_from_submitting_to_the_picture(client: httpx.Client) -> None:
    job = submit(client, n_iter=2)
    assert (job["kind"], job["seed"], job["error"]) == ("txt2img", 7, None)
    assert job["state"] in ("queued", "running")
    seen = events(client, job["id"])
    assert seen[-1]["state"] == "done"
    progress = [one["progress"] for one in seen]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    over = client.get(f"/v1/jobs/{job['id']}").json()
    assert over == seen[-1]
    assert len(over["images"]) == 2
    picture = client.get(f"/v1/images/{over['images'][0]}")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["id"] == job["id"]


def test_every_kind(server: Server) -> None:
    picture = base64_of(Image.new("RGB", (64, 64), "navy"))
    bodies = [
        {**JOB, "kind": "img2img", "init_images": [picture]},
        {"kind": "extras", "imageList": [{"data": picture, "name": "a"}], "upscaler_1": "Lanczos"},
    ]
    with server.client() as client:
        for body in bodies:
            job = client.post("/v1/jobs", json=body).json()
            assert events(client, job["id"])[-1]["state"] == "done"
            assert client.get(f"/v1/jobs/{job['id']}").json()["kind"] == body["kind"]


def test_cancel_and_keep(client: httpx.Client) -> None:
    job = submit(client, **LONG)["id"]
    assert client.delete(f"/v1/jobs/{job}").status_code == 200
    assert events(client, job)[-1]["state"] == "cancelled"
    kept = submit(client, **LONG)["id"]
    while client.get(f"/v1/jobs/{kept}").json()["progress"] == 0:
        time.sleep(0.01)
    client.delete(f"/v1/jobs/{kept}", params={"keep": True})
    over = events(client, kept)[-1]
    assert (over["state"], over["interrupted"]) == ("done", True)
    assert 1 <= len(over["images"]) < 20
    assert client.delete(f"/v1/jobs/{kept}").json() == over


def test_what_a_picture_was_drawn_without_is_told(client: httpx.Client) -> None:
    job = submit(client, prompt="unknown")["id"]
    over = events(client, job)[-1]
    assert over["state"] == "done"
    assert over["notes"] == [
        {"code": "network_absent", "message": "There is no lora “gone”; the picture was drawn without it."}
    ]
    chinese = client.get(f"/v1/jobs/{job}", headers={"Accept-Language": "zh"}).json()  # from the disk now
    assert [note["message"] for note in chinese["notes"]] == ["没有名为“gone”的 lora，图片未使用它。"]
    assert client.get(f"/v1/jobs/{submit(client)['id']}").json()["notes"] == []


def test_a_job_that_fails_says_why(client: httpx.Client) -> None:
    job = submit(client, prompt="out-of-memory")["id"]
    over = events(client, job)[-1]
    assert over["state"] == "failed"
    assert over["error"]["code"] == "out_of_memory"
    chinese = client.get(f"/v1/jobs/{job}", headers={"Accept-Language": "zh"}).json()
    assert "内存" in chinese["error"]["message"]


def test_a_key_makes_one_job(client: httpx.Client) -> None:
    first = submit(client, "once", seed=-1)
    assert submit(client, "once", seed=-1)["id"] == first["id"]
    assert submit(client, "another", seed=-1)["id"] != first["id"]
    reused = client.post("/v1/jobs", json={**JOB, "seed": 8}, headers={"Idempotency-Key": "once"})
    assert assert_four_keys(reused, 409)["error"] == "KeyReused"


def test_many_at_once_with_one_key(client: httpx.Client) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(submit(client, "at once", prompt="x")["id"])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_failed_may_be_used_again(client: httpx.Client) -> None:
    wrong = client.post("/v1/jobs", json={**JOB, "steps": 0}, headers={"Idempotency-Key": "mended"})
    assert_four_keys(wrong, 422)
    assert submit(client, "mended")["id"]


def test_after_a_restart_and_a_dropped_connection(tmp_path: Any) -> None:
    running = start_server(tmp_path / "data", environment={"DANQING_ENGINE_COMMAND": FAKE})
    try:
        with running.client() as client:
            job = submit(client, "kept", n_iter=4)["id"]
        running.kill()
        running = start_server(tmp_path / "data", environment={"DANQING_ENGINE_COMMAND": FAKE}, port=running.port)
        with running.client() as client:
            assert submit(client, "kept", n_iter=4)["id"] == job
            over = events(client, job)[-1]
            assert over["state"] == "done"
            assert len(over["images"]) == 4
    finally:
        running.stop()


@pytest.mark.parametrize(
    "sent", [{}, {"kind": "train"}, {"kind": "txt2img", "steps": "x"}, {"kind": "extras"}, [], {"kind": 5}], ids=str
)
def test_bodies_that_are_none(client: httpx.Client, sent: Any) -> None:
    response = client.post("/v1/jobs", json=sent)
    assert response.status_code == 422
    assert {"loc", "msg", "type"} <= set(response.json()["detail"][0])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/jobs/none", 404),
        ("GET", "/v1/jobs/none/events", 404),
        ("DELETE", "/v1/jobs/none", 404),
        ("GET", "/v1/images/none", 404),
        ("GET", "/v1/jobs?limit=0", 422),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/jobs", 405),
        ("DELETE", "/v1/images/x", 405),
        ("GET", "/v1/images/generations", 404),
    ],
)
def test_what_is_not_there(client: httpx.Client, method: str, path: str, status: int) -> None:
    assert client.request(method, path).status_code == status


def test_the_queue_has_an_end(client: httpx.Client) -> None:
    """One past `limit_queue` is refused with the number; what is queued stays."""
    jobs, refused = [], None
    while refused is None and len(jobs) < 200:
        response = client.post("/v1/jobs", json=LONG)
        if response.status_code == 202:
            jobs.append(response.json()["id"])
        else:
            refused = response
    for job in jobs:
        client.delete(f"/v1/jobs/{job}")
    assert refused is not None
    assert "40" in assert_four_keys(refused, 429)["detail"]
    assert refused.headers["retry-after"]


def test_two_clients_with_options_of_their_own(quick_server: Server) -> None:
    """Each sets an option and draws twenty times at once with the other; every picture obeys its own client."""
    wrong: list[str] = []

    def one(name: str, skip: int) -> None:
        with quick_server.client(cookies={"danqing_client": name}) as client:
            for number in range(20):
                client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": skip, "sd_model_checkpoint": None})
                answer = client.post("/sdapi/v1/txt2img", json={**JOB, "seed": number})
                info = json.loads(answer.json()["info"])
                if info["clip_skip"] != skip or info["seed"] != number:
                    wrong.append(f"{name} {number}")

    threads = [threading.Thread(target=one, args=pair) for pair in (("one", 2), ("two", 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
