"""The commands beside a running Danqing that asks for a login; a program that speaks the engine's protocol draws for it."""

from __future__ import annotations

import os
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from danqing.box import logs, spot, warmup
from danqing.box.errors import BoxError
from danqing.box.local import Client
from danqing.box.places import Places
from tests.boxcli.conftest import box, well
from tests.conftest import Server, start_server

ENGINE = Path(__file__).resolve().parent.parent / "jobs" / "fake_engine.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def running(root: Path) -> Iterator[Server]:
    environment = {
        "DANQING_BOX_ROOT": str(root),
        "DANQING_METADATA": "http://127.0.0.1:9",
        "DANQING_BOX_DATA_VOLUME": "none",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        well("firstboot")
        engine = {"DANQING_ENGINE_COMMAND": f"{sys.executable} {ENGINE} --step 0.02"}
        server = start_server(Places.here().data, "--users", "login", environment=engine)
        yield server
        server.stop()


@pytest.fixture
def machine(running: Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("DANQING_BOX_ROOT", str(root))
    monkeypatch.setenv("DANQING_BOX_URL", running.base_url)
    monkeypatch.setenv("DANQING_METADATA", "http://127.0.0.1:9")
    monkeypatch.setenv("LC_ALL", "C")
    return Places.here()


def test_the_password_of_the_first_boot_opens_the_page(machine: Places, running: Server) -> None:
    password = machine.password.read_text().strip()
    with running.client(auth=("admin", password)) as client:
        assert client.get("/sdapi/v1/samplers").status_code == 200
    with running.client(auth=("admin", "guess")) as client:
        assert client.get("/sdapi/v1/samplers").status_code == 401


def test_a_first_picture_of_every_model_is_drawn_and_timed(machine: Places) -> None:
    text = well("warmup", "--wait", "60")
    assert ".safetensors" in text
    report = well("report")
    assert "warmup" in report
    assert "torch" in report
    assert "ready" in well("status")
    assert '"ready": true' in well("status", "--json")


def test_a_model_that_cannot_draw_is_named(machine: Places) -> None:
    with pytest.raises(BoxError) as error:
        warmup.draw(Client(machine), "no such model", steps=100_000)
    assert error.value.code == "picture_failed"
    assert "no such model" in str(error.value)


def test_nobody_there(machine: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANQING_BOX_URL", "http://127.0.0.1:9")
    done = box("warmup", "--wait", "0")
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "not_answering"
    assert "does not answer" in well("status")


def test_the_doctor_finds_a_healthy_box_healthy_and_a_silent_one_not(
    machine: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danqing.box.doctor._units", lambda: iter(()))
    monkeypatch.setattr("danqing.box.doctor.Path", _without_systemd)
    done = box("doctor")
    assert done.exit_code == 0, done.output
    assert "the database is whole" in done.output
    assert "answers" in done.output
    monkeypatch.setenv("DANQING_BOX_URL", "http://127.0.0.1:9")
    done = box("doctor")
    assert done.exit_code == 1
    assert "systemctl restart danqing-web" in done.output


def _without_systemd(path: str) -> Path:
    return Path("/nonexistent" if path == "/run/systemd/system" else path)


def test_the_bundle_has_no_secret(machine: Places, tmp_path: Path) -> None:
    token = (machine.data / "secrets/box.token").read_text().strip()
    digest = (machine.data / "secrets/admin.hash").read_text().strip()
    well("bundle", "-o", str(tmp_path / "bundle.tar.gz"))
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]
    for secret in (machine.password.read_text().strip(), token, digest, warmup.PROMPT):
        assert not [name for name, text in files.items() if secret in text]
    assert "torch" in files["versions.json"]
    assert "limit_steps = " in files["settings.txt"]
    assert "danqing_jobs" in files["metrics.txt"]
    assert "warmup" in files["boot-report.json"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("password=hunter2 next", "password=*** next"),
        ('"api_key": "abc def", "n": 1', '"api_key": ***, "n": 1'),
        ("Authorization: Basic YWJjOmRlZg==\nHost: x", "Authorization: ***\nHost: x"),
        ("DANQING_SECRET_TOKEN='a b'", "DANQING_SECRET_TOKEN=***"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key *** used"),
        ("session_hours = 336.0", "session_hours = ***"),
        ("limit_steps = 60", "limit_steps = 60"),
    ],
)
def test_secrets_are_taken_out_of_text(text: str, left: str) -> None:
    assert logs.clean(text) == left


def test_a_held_queue_finishes_what_runs_and_begins_nothing(machine: Places, running: Server) -> None:
    auth = ("admin", machine.password.read_text().strip())
    held = spot.hold(machine)
    body = {"prompt": "x", "steps": 2, "width": 64, "height": 64}
    try:
        with httpx.Client(base_url=running.base_url, auth=auth, trust_env=False) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/sdapi/v1/txt2img", json=body, timeout=2.5)
            assert 'danqing_jobs{state="waiting"} 1.0' in client.get("/metrics").text
            held.unlink()
            end = time.monotonic() + 20
            while 'danqing_jobs{state="waiting"} 0.0' not in client.get("/metrics").text:
                assert time.monotonic() < end
                time.sleep(0.2)
    finally:
        held.unlink(missing_ok=True)


def test_backup_of_a_running_box(machine: Places, tmp_path: Path) -> None:
    well("backup", str(tmp_path / "live.tar.gz"))
    done = box("restore", "--force", str(tmp_path / "live.tar.gz"))
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "in_use"
    assert os.path.getsize(tmp_path / "live.tar.gz") > 1000


def test_the_status_says_whether_networks_run_compiled(machine: Places, running: Server) -> None:
    assert "networks: compiled, 1.43 times as fast" in well("status")
    # To strangers it says nothing of the machine.
    assert httpx.get(running.base_url + "/v1/engine").status_code == 401
    with running.client(auth=("admin", machine.password.read_text().strip())) as client:
        told = client.get("/v1/engine").json()
    assert told["ready"]
    assert told["acceleration"]["state"] == "compiled"
    assert told["acceleration"]["seconds"] == 312
