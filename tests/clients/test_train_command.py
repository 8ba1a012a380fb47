"""`danqing train` at a server whose engine keeps workers that compute nothing, and on this machine with the real worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from danqing.train.folder import create
from danqing.train.recipe import TrainRequest
from tests.clients.test_command_line import danqing
from tests.conftest import Server, start_server

FAKE = Path(__file__).parents[1] / "jobs" / "fake_engine.py"


@pytest.fixture(scope="module")
def trains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("trains") / "data"
    running = start_server(data, environment={"DANQING_ENGINE_COMMAND": f"{sys.executable} {FAKE} --data {data}"})
    yield running
    running.stop()


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    folder = tmp_path / "stars"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64), (90 * number, 40, 160)).save(folder / f"{number}.png")
    (folder / "0.txt").write_text("a star")
    (folder / "notes.md").write_text("no caption")
    return folder


def test_at_a_server(trains: Server, stars: Path) -> None:
    shared = ("--url", trains.base_url, "--preset", "cpu-mini", "--set", "steps=3", "--json")
    done = danqing("train", str(stars), "--name", "zqx", *shared)
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)["id"]
    assert sorted(path.name for path in (trains.data / "datasets" / "local" / "stars").iterdir()) == [
        "0.png",
        "0.txt",
        "1.png",
    ]
    with trains.client() as client:
        recipe = client.get(f"/v1/jobs/{job}/training").json()["recipe"]
    assert (recipe["data"], recipe["steps"], recipe["rank"]) == ("stars", 3, 8)
    below = stars.parent / "other" / "stars" / "10_zqx"
    below.mkdir(parents=True)
    Image.new("RGB", (64, 64), (200, 10, 10)).save(below / "a.png")
    (below / "a.txt").write_text("a red one")
    other = danqing("train", str(below.parent), "--name", "red", *shared)
    assert other.returncode == 0, other.stderr
    with trains.client() as client:  # not mixed with the pictures of another folder of this name
        (only,) = client.get("/v1/datasets/stars-2").json()["pictures"]
        assert (only["name"], only["caption"]) == ("10_zqx_a.png", "a red one")
        assert len(client.get("/v1/datasets/stars").json()["pictures"]) == 2
    again = danqing("train", "stars", "--name", "other", "--method", "hypernetwork", *shared)
    assert again.returncode == 0, again.stderr
    failed = danqing("train", "stars", "--name", "fail", *shared)
    assert failed.returncode == 1
    assert "no valid numbers" in failed.stderr
    with trains.client() as client:
        newest = client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["id"]
    resumed = danqing("train", "--resume", newest, *shared)
    assert resumed.returncode == 0, resumed.stderr
    assert danqing("train", "nothing here", "--name", "x", *shared).returncode == 2


def test_on_this_machine(stars: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shared = (
        "--data",
        str(data),
        "--preset",
        "cpu-mini",
        "--set",
        "steps=1",
        "--set",
        "batch_size=1",
        "--set",
        "resolution=64",
    )
    done = danqing(
        "train", str(stars), "--name", "zqx", "--method", "textual_inversion", *shared, language="zh_CN.UTF-8"
    )
    assert done.returncode == 0, done.stderr
    assert "2 张图片" in done.stderr
    (line,) = done.stdout.splitlines()
    assert (data / line).is_file()
    taken = danqing("train", str(stars), "--name", "zqx", "--method", "textual_inversion", *shared)
    assert taken.returncode == 2
    assert "never overwritten" in taken.stderr


def test_one_that_runs_is_not_resumed_twice(stars: Path, tmp_path: Path) -> None:
    training = create(tmp_path / "data", TrainRequest(method="lora", name="zqx", data=str(stars)))
    with training.held():
        done = danqing("train", "--resume", training.id, "--data", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "running already" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "PICTURES"),
        (("here",), "--name"),
        (("here", "--name", "x", "--preset", "h100"), "t4, a10g, cpu-mini"),
        (("here", "--name", "../x"), "name"),
        (("here", "--name", "x", "--set", "steps=0"), "steps"),
        (("--resume", "0" * 16), "no training"),
    ],
    ids=str,
)
def test_bad_input(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "here").mkdir()
    placed = tuple(str(tmp_path / one) if one == "here" else one for one in arguments)
    done = danqing("train", *placed, "--data", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
