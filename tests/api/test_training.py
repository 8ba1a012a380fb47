"""Training through the API: data sets, jobs of kind train, the WebUI's routes, who may."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from danqing.api.tokens import Tokens
from danqing.api.webui_training import WebuiTraining, rates, training_fields
from danqing.engine.interrogators import TAGGER_FILE
from danqing.errors import DanqingError
from tests.api.conftest import FAKE
from tests.api.support import assert_four_keys
from tests.conftest import Server, start_server

JOB: dict[str, Any] = {"kind": "train", "method": "lora", "data": "stars", "steps": 30, "preset": "cpu-mini"}


@pytest.fixture(scope="module")
def trains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a login whose engine keeps workers that compute nothing."""
    data = tmp_path_factory.mktemp("trains") / "data"
    more = {"DANQING_ENGINE_COMMAND": f"{FAKE} --data {data}", "DANQING_LIMIT_TRAIN_PICTURES": "20"}
    running = start_server(data, "--users", "login", environment=more)
    yield running
    running.stop()


@pytest.fixture
def client(trains: Server) -> Iterator[httpx.Client]:
    with trains.client(auth=("admin", trains.password)) as client:
        yield client


def png(number: int, side: int = 128) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (40 * number % 256, 90, 10 * number % 256)).save(out, "PNG")
    return out.getvalue()


def upload(client: httpx.Client, name: str = "stars") -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in a folder/two.png", png(2))
        archive.writestr("in a folder/two.txt", "two stars")
        archive.writestr("readme.md", "not wanted")
    files = [("files", ("one.png", png(1))), ("files", ("more.zip", packed.getvalue()))]
    answer = client.post(f"/v1/datasets/{name}", files=files)
    assert (answer.status_code, answer.json()) == (200, {"name": name, "files": 3, "issues": []})


def over(client: httpx.Client, job: str, seconds: float = 40) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while (told := client.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < end, told
        time.sleep(0.1)
    return dict(told)


def test_a_data_set_from_upload_to_the_bin(client: httpx.Client) -> None:
    upload(client)
    assert client.get("/v1/datasets").json() == {
        "datasets": [{"name": "stars", "pictures": 2}],
        "folder": "datasets/admin",
    }
    found = client.get("/v1/datasets/stars", params={"resolution": 256}, headers={"Accept-Language": "zh"}).json()
    assert [(row["name"], row["caption"]) for row in found["pictures"]] == [
        ("in a folder_two.png", "two stars"),
        ("one.png", ""),
    ]
    assert {row["code"] for row in found["issues"]} == {"train_picture_small"}
    assert "放大" in found["issues"][0]["text"]
    body = {"file": "one.png", "caption": "  one\nstar "}
    assert client.put("/v1/datasets/stars/captions", json=body).status_code == 200
    assert client.put("/v1/datasets/stars/captions", json={**body, "file": "in a folder_two.png"}).status_code == 200
    found = client.get("/v1/datasets/stars").json()
    assert {row["caption"] for row in found["pictures"]} == {"one star"}
    small = client.get("/v1/datasets/stars/pictures/one.png")
    assert Image.open(io.BytesIO(small.content)).size == (128, 128)
    assert client.delete("/v1/datasets/stars").status_code == 200
    assert client.get("/v1/datasets").json()["datasets"] == []


@pytest.mark.parametrize("name", ["..", "../admin/stars", "/etc", "%2e%2e%2f%2e%2e", "nothing", "away"])
def test_data_outside_ones_own_folder_is_refused(trains: Server, client: httpx.Client, name: str) -> None:
    other = trains.data / "datasets" / "wang" / "theirs"
    other.mkdir(parents=True, exist_ok=True)
    (other / "a.png").write_bytes(png(1))
    home = trains.data / "datasets" / "admin"
    home.mkdir(exist_ok=True)
    link = home / "away"
    link.unlink(missing_ok=True)
    link.symlink_to(other)
    try:
        for wanted in (name, str(other), "../wang/theirs"):
            told = client.post("/v1/jobs", json={**JOB, "name": "x", "data": wanted})
            assert assert_four_keys(told, 404)["error"] == "TrainDataUnknown"
        told = client.post("/sdapi/v1/train/embedding", json={"embedding_name": "x", "data_root": name})
        assert assert_four_keys(told, 404)["error"] == "TrainDataUnknown"
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("a.exe", b"MZ", "InvalidField"),
        ("a.zip", b"no zip", "TrainArchive"),
        ("../../../etc/x.py", b"", "InvalidField"),
    ],
)
def test_what_is_no_picture_is_not_taken(client: httpx.Client, file: str, content: bytes, error: str) -> None:
    told = client.post("/v1/datasets/odd", files=[("files", (file, content))])
    assert assert_four_keys(told, 422)["error"] == error
    assert client.post("/v1/datasets/odd", data={"files": "text"}).status_code == 422


def test_a_zip_with_a_broken_member_costs_only_that(client: httpx.Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bad.png", b"x" * 100)
        archive.writestr(f"{'画' * 100}.png", png(1))
        archive.writestr(f"{'画' * 100}.txt", "a long name")
    content = packed.getvalue().replace(b"x" * 100, b"y" * 100)  # its checksum is wrong now
    told = client.post("/v1/datasets/torn", files=[("files", ("set.zip", content))]).json()
    assert (told["files"], [row["file"] for row in told["issues"]]) == (2, ["bad.png"])
    (only,) = client.get("/v1/datasets/torn").json()["pictures"]
    assert only["caption"] == "a long name"
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", b"")
    refused = client.post("/v1/datasets/torn", files=[("files", ("set.zip", many.getvalue()))])
    assert assert_four_keys(refused, 422)["error"] == "TrainTooManyPictures"
    assert client.get("/v1/datasets").json()["datasets"][-1]["pictures"] == 1
    client.delete("/v1/datasets/torn")


def test_a_picture_leaves_its_set(client: httpx.Client) -> None:
    files = [("a.png", png(1)), ("a.TXT", b"first"), ("a-mask.png", png(3)), ("b.png", png(2)), ("b.txt", b"second")]
    client.post("/v1/datasets/few", files=[("files", one) for one in files])
    client.put("/v1/datasets/few/captions", json={"file": "a.png", "caption": "edited"})
    assert client.get("/v1/datasets/few").json()["pictures"][0]["caption"] == "edited"
    for wrong in ("c.png", "..%2Ffew%2Fb.png", "b.txt"):
        assert client.delete(f"/v1/datasets/few/pictures/{wrong}").status_code == 404
    assert client.delete("/v1/datasets/few/pictures/a.png").status_code == 200
    client.post("/v1/datasets/few", files=[("files", ("a.png", png(3)))])
    told = client.get("/v1/datasets/few").json()["pictures"]
    assert [(row["name"], row["caption"], row["mask"]) for row in told] == [
        ("a.png", "", False),
        ("b.png", "second", False),
    ]
    client.delete("/v1/datasets/few")


def test_an_interrogator_writes_captions(trains: Server, client: httpx.Client) -> None:
    body = {"file": "one.png", "model": "deepdanbooru"}
    upload(client)
    client.put("/v1/datasets/stars/captions", json={"file": "one.png", "caption": "by hand"})
    refused = client.post("/v1/datasets/stars/captions", json=body)
    assert assert_four_keys(refused, 422)["error"] == "InterrogatorMissing"
    assert client.get("/v1/datasets/stars").json()["pictures"][1]["caption"] == "by hand"
    tagger = trains.data / "models" / "interrogate" / "deepdanbooru" / TAGGER_FILE
    tagger.parent.mkdir(parents=True)
    tagger.touch()
    told = client.post("/v1/datasets/stars/captions", json=body).json()
    assert told["file"] == "one.png"
    assert told["caption"] == client.get("/v1/datasets/stars").json()["pictures"][1]["caption"] != "by hand"
    gone = client.post("/v1/datasets/stars/captions", json={**body, "file": "three.png"})
    assert assert_four_keys(gone, 404)["error"] == "UnknownPicture"


def test_a_training_as_a_job(client: httpx.Client) -> None:
    upload(client)
    need = client.post("/v1/training/estimate", json={**JOB, "name": "zqx"}).json()
    assert need["bytes"] == sum(need["parts"].values())
    assert (need["fits"], need["measured"]) == (True, False)
    answer = client.post("/v1/jobs", json={**JOB, "name": "zqx", "learning_rate": 0.5, "steps": 150})
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    assert answer.json()["training"] == {"name": "zqx", "step": 0, "steps": 150, "loss": None, "paused": False}
    again = client.post("/v1/jobs", json={**JOB, "name": "zqx"})
    assert assert_four_keys(again, 409)["error"] == "TrainNameTaken"
    with client.stream("GET", f"/v1/jobs/{job}/events") as events:
        seen = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    assert any(0 < told["progress"] < 1 and told["training"]["loss"] > 0 for told in seen)
    assert (seen[-1]["state"], seen[-1]["training"]["step"]) == ("done", 150)
    told = client.get(f"/v1/jobs/{job}/training").json()
    assert (told["recipe"]["learning_rate"], told["recipe"]["rank"], told["recipe"]["data"]) == (0.5, 8, "stars")
    assert [row["step"] for row in told["rows"]] == list(range(1, 151))
    assert client.get(f"/v1/jobs/{job}/training", params={"since": told["next"]}).json()["rows"] == []
    assert client.get(f"/v1/jobs/{job}/samples/0").status_code == 404
    assert assert_four_keys(client.get(f"/v1/jobs/{job}/files/0"), 404)["error"] == "TrainFileGone"
    assert client.get("/v1/jobs", params={"kind": "train", "limit": 1}).json()["jobs"][0]["id"] == job
    assert client.get("/v1/jobs", params={"kind": "txt2img"}).json()["jobs"] == []
    assert "danqing_trainings_done 1.0" in client.get("/metrics").text


def test_pause_and_resume(client: httpx.Client) -> None:
    upload(client)
    job = client.post("/v1/jobs", json={**JOB, "name": "slow", "steps": 300}).json()["id"]
    while client.get(f"/v1/jobs/{job}").json()["training"]["step"] < 1:
        time.sleep(0.05)
    assert client.post(f"/v1/jobs/{job}/pause").json()["training"]["paused"] is True
    end = time.monotonic() + 30
    while (told := client.get(f"/v1/jobs/{job}").json())["state"] != "queued":
        assert time.monotonic() < end, told
    assert client.post(f"/v1/jobs/{job}/resume").json()["training"]["paused"] is False
    assert over(client, job)["state"] == "done"
    assert client.post(f"/v1/jobs/{'0' * 32}/pause").status_code == 404


def test_who_may(trains: Server, client: httpx.Client) -> None:
    upload(client)
    text, _ = Tokens(trains.data).new("draws only", ["draw"], "admin")
    with trains.client(headers={"Authorization": f"Bearer {text}"}) as weak:
        assert weak.get("/v1/datasets").status_code == 200
        for method, path, body in (
            ("POST", "/v1/jobs", {**JOB, "name": "x"}),
            ("POST", "/v1/training/estimate", {**JOB, "name": "x"}),
            ("DELETE", "/v1/datasets/stars", None),
            ("PUT", "/v1/datasets/stars/captions", {"file": "one.png", "caption": ""}),
            ("POST", f"/v1/jobs/{'0' * 32}/pause", None),
            ("POST", "/sdapi/v1/create/embedding", {"name": "x"}),
            ("POST", "/sdapi/v1/train/hypernetwork", {"hypernetwork_name": "x"}),
        ):
            refused = weak.request(method, path, json=body)
            assert assert_four_keys(refused, 403)["error"] == "NotAllowed", path
    text, _ = Tokens(trains.data).new("trains", ["train"], "admin")
    with trains.client(headers={"Authorization": f"Bearer {text}"}) as strong:
        assert strong.post("/v1/training/estimate", json={**JOB, "name": "x"}).status_code == 200


def test_the_webuis_routes(trains: Server, client: httpx.Client) -> None:
    upload(client)
    made = client.post(
        "/sdapi/v1/create/embedding", json={"name": "qq", "num_vectors_per_token": 3, "init_text": "star"}
    )
    assert made.json() == {"info": "create embedding filename: embeddings/qq.pt"}
    body = {"embedding_name": "qq", "data_root": "stars", "steps": 12, "learn_rate": "0.01:4, 0.001:8, 0.0005"}
    done = client.post("/sdapi/v1/train/embedding", json={**body, "training_width": 128, "training_height": 64})
    assert done.status_code == 200, done.text
    assert done.json()["info"].startswith("train embedding complete: filename: ")
    newest = client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["id"]
    recipe = client.get(f"/v1/jobs/{newest}/training").json()["recipe"]
    assert (recipe["method"], recipe["vectors"], recipe["initial_text"]) == ("textual_inversion", 3, "star")
    assert (recipe["learning_rate"], recipe["schedule"]) == (0.01, "piecewise_constant")
    assert recipe["rate_rules"] == "1:4,0.1:8,0.05"
    assert (recipe["resolution"], recipe["buckets"], recipe["steps"]) == (88, True, 12)
    client.post(
        "/sdapi/v1/create/hypernetwork", json={"name": "hh", "layer_structure": "1, 2, 1", "activation_func": "relu"}
    )
    done = client.post(
        "/sdapi/v1/train/hypernetwork", json={"hypernetwork_name": "hh", "data_root": "stars", "steps": 2}
    )
    assert done.status_code == 200, done.text


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("create/embedding", {"name": "../x"}, 422, "InvalidField"),
        ("create/embedding", {"name": "x", "num_vectors_per_token": 500}, 422, "InvalidField"),
        ("create/hypernetwork", {"name": "x", "layer_structure": "1, two"}, 422, "InvalidField"),
        ("create/hypernetwork", {"name": "x", "activation_func": "sine"}, 422, "InvalidField"),
        (
            "train/embedding",
            {"embedding_name": "x", "data_root": "stars", "learn_rate": "1:-5, 1"},
            422,
            "InvalidField",
        ),
        ("train/embedding", {"embedding_name": "x", "data_root": "stars", "tag_drop_out": 0.5}, 422, "NotAvailable"),
        ("train/embedding", {"embedding_name": "x", "data_root": "stars", "learn_rate": "fast"}, 422, "InvalidField"),
        (
            "train/embedding",
            {"embedding_name": "x", "data_root": "stars", "template_filename": "a"},
            422,
            "InvalidField",
        ),
    ],
)
def test_what_the_webuis_routes_refuse(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, error: str
) -> None:
    upload(client)
    assert assert_four_keys(client.post(f"/sdapi/v1/{path}", json=body), status)["error"] == error


def test_a_rate_that_begins_at_nothing_is_kept() -> None:
    told = {"learning_rate": 0.001, "schedule": "piecewise_constant", "rate_rules": "0:5,1"}
    assert rates("0:5, 0.001") == told
    with pytest.raises(DanqingError, match="clip_grad_value"):
        training_fields(WebuiTraining(clip_grad_mode="norm", clip_grad_value="fast"), "x")


def test_presets_name_fields_of_the_recipe(client: httpx.Client) -> None:
    told = client.get("/v1/training/presets").json()
    assert set(told["presets"]) == {"t4", "a10g", "cpu-mini"}
    for methods in told["presets"].values():
        assert set(methods) == set(told["methods"])
        assert all(set(fields) <= set(told["defaults"]) for fields in methods.values())
