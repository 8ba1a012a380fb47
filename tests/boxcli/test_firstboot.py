"""First boot: secrets once and different everywhere, what the launch said, nothing secret in the open."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from danqing.api.auth import AdminAccount, WithMachine
from danqing.box import firstboot, password, tools, volume
from danqing.box.errors import BoxError
from danqing.box.metadata import Metadata
from danqing.box.places import Places
from tests.boxcli.conftest import Service, box, needs_root, well


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_password_is_for_root_only_and_opens_the_app(places: Places) -> None:
    well("firstboot")
    text = places.password.read_text().strip()
    assert len(text) >= 20
    assert mode(places.password) == 0o600
    assert mode(places.data / "secrets") == 0o700
    assert AdminAccount(places.data).check("admin", text) == "admin"
    assert AdminAccount(places.data).check("admin", "guess") is None
    copy = places.data / "secrets" / "password"
    assert (mode(copy), copy.stat().st_uid) == (0o600, os.geteuid())


def test_no_secret_is_told(places: Places, capfd: pytest.CaptureFixture[str]) -> None:
    output = well("firstboot")
    token = (places.data / "secrets" / "box.token").read_text().strip()
    secrets = (places.password.read_text().strip(), token)
    told = output + "".join(capfd.readouterr())
    told += "".join(file.read_text() for file in (places.status, places.report, places.done, places.local_env))
    assert not any(secret in told for secret in secrets)


@needs_root
def test_a_link_in_the_place_of_the_secrets_gives_nothing_away(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data folder is the service's: what it lays there must not have root hand it the system's files at the next boot."""
    well("firstboot")
    system = tmp_path / "etc"
    (places.data / "secrets").rename(system)
    (places.data / "secrets").symlink_to(system)
    (system / "shadow").write_text("root:x")
    monkeypatch.setattr(tools, "owner_of", lambda user: (12345, 12345))
    well("firstboot")
    assert (system / "shadow").stat().st_uid == 0


def test_a_second_boot_makes_nothing_anew(places: Places) -> None:
    well("firstboot")
    files = [places.password, places.data / "secrets" / "admin.hash", places.data / "secrets" / "box.token"]
    files.append(places.done)
    before = [file.read_text() for file in files]
    places.status.unlink()
    well("firstboot")
    assert [file.read_text() for file in files] == before
    row = json.loads(places.report.read_text())[0]
    assert (row["name"], row["state"], row["note"]) == ("firstboot", "done", "done before")
    assert "first boot" in json.loads(places.last_report.read_text())[0]["note"]


def test_every_machine_has_its_own(tmp_path: Path) -> None:
    texts = set()
    for name in ("a", "b"):
        machine = Places(tmp_path / name)
        firstboot.run(machine, Metadata("http://127.0.0.1:9"))
        texts |= {machine.password.read_text(), (machine.data / "secrets/box.token").read_text()}
    assert len(texts) == 4


def test_half_a_first_boot_is_finished_by_the_next(places: Places) -> None:
    places.data.mkdir(parents=True)
    (places.data / "secrets").mkdir()
    well("firstboot")
    assert AdminAccount.exists(places.data)
    assert places.done.exists()


def test_what_the_launch_said(places: Places, imds: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANQING_METADATA", imds.url)
    told = {"idle_minutes": 45, "settings": {"limit_steps": 50, "limit_side": -1, "unknown": 1, "log_format": "a\nB=c"}}
    imds.known = {
        "meta-data/instance-id": "i-0123456789abcdef0",
        "meta-data/instance-type": "g5.xlarge",
        "user-data": "#cloud-config\n# danqing: " + json.dumps(told) + "\n",
    }
    well("firstboot")
    lines = places.local_env.read_text().splitlines()
    assert "DANQING_LIMIT_STEPS=50" in lines
    assert "DANQING_BOX_IDLE_MINUTES=45" in lines
    assert not [line for line in lines if "SIDE" in line or "UNKNOWN" in line or "B=c" in line]
    host = json.loads(places.done.read_text())["host"]
    assert host == {"instance": "i-0123456789abcdef0", "type": "g5.xlarge"}
    assert imds.plain == 0, "IMDSv1 was tried"


@pytest.mark.parametrize("text", ["", "#!/bin/sh\necho", "# danqing: {broken", "# danqing: [1]", "# danqing: 7"])
def test_user_data_that_is_not_ours(imds: Service, text: str) -> None:
    imds.known["user-data"] = text
    assert Metadata(imds.url).told() == {}


def test_on_ec2_the_network_is_waited_for(places: Places, imds: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service answers only at the third try, as when the network comes up late."""
    from danqing.box import metadata as module

    vendor = places.root / "sys/class/dmi/id/sys_vendor"
    vendor.parent.mkdir(parents=True)
    vendor.write_text("Amazon EC2\n")
    imds.known["meta-data/instance-id"] = "i-1"
    late = Metadata("http://127.0.0.1:9")
    tries: list[float] = []

    def sleep(seconds: float) -> None:
        tries.append(seconds)
        if len(tries) == 2:
            late._address = imds.url

    monkeypatch.setattr(module.time, "sleep", sleep)
    late.wait(places)
    assert late.facts() == {"instance": "i-1"}
    assert len(tries) == 2
    vendor.write_text("QEMU\n")
    Metadata("http://127.0.0.1:9").wait(places)
    assert len(tries) == 2


def test_outside_ec2_nothing_is_known() -> None:
    metadata = Metadata("http://127.0.0.1:9")
    assert not metadata.present
    assert metadata.facts() == {}


def test_a_volume_that_does_not_come_stops_the_boot(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANQING_BOX_DATA_VOLUME", "vol-0123456789abcdef0")
    monkeypatch.setattr(volume, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(volume.wait_for, "__defaults__", (0.0,))
    done = box("firstboot")
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "no_volume"
    assert not places.done.exists()
    states = {row["name"]: row["state"] for row in json.loads(places.status.read_text())["phases"]}
    assert states == {"firstboot": "failed", "volume": "failed"}


# -- the machine's own login --


def test_the_machine_logs_in_with_its_token(places: Places) -> None:
    well("firstboot")
    accounts = WithMachine(AdminAccount(places.data), places.data)
    token = (places.data / "secrets" / "box.token").read_text().strip()
    assert accounts.check("box", token) == "box"
    assert accounts.check("box", "") is None
    assert accounts.check("box", token[:-1]) is None
    assert accounts.check("admin", token) is None
    (places.data / "secrets" / "box.token").write_text("short")
    assert accounts.check("box", "short") is None
    (places.data / "secrets" / "box.token").unlink()
    assert accounts.check("box", "") is None


# -- passwords --


@needs_root
def test_showing_and_changing_the_password(places: Places) -> None:
    well("firstboot")
    first = well("password").strip()
    (places.data / "secrets" / "sessions.json").write_text("{}")
    second = well("password", "--reset").strip()
    assert first != second
    assert well("password").strip() == second
    account = AdminAccount(places.data)
    assert account.check("admin", second) == "admin"
    assert account.check("admin", first) is None
    assert not (places.data / "secrets" / "sessions.json").exists()
    assert mode(places.password) == 0o600


@needs_root
def test_a_password_of_ones_own(places: Places) -> None:
    well("firstboot")
    weak = box("password", "--reset", "--ask", typed="short\nshort\n")
    assert isinstance(weak.exception, BoxError)
    assert weak.exception.code == "password_weak"
    done = box("password", "--reset", "--ask", typed="correct horse\ncorrect horse\n")
    assert done.exit_code == 0
    assert "correct horse" not in done.output
    assert AdminAccount(places.data).check("admin", "correct horse") == "admin"


@needs_root
def test_the_next_machine_of_a_volume_shows_the_same_password(places: Places) -> None:
    well("firstboot")
    text = well("password")
    for gone in (places.password, places.done):
        gone.unlink()
    well("firstboot")
    assert well("password") == text
    assert mode(places.password) == 0o600
    assert "came with the data volume" in well("report")


@needs_root
def test_a_password_that_is_no_longer_right_is_not_shown(places: Places) -> None:
    well("firstboot")
    AdminAccount.set_password(places.data, "restored from a backup")
    done = box("password")
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "password_unknown"


@needs_root
def test_a_password_that_came_with_the_volume_is_kept_and_said_to_be_unknown(places: Places) -> None:
    AdminAccount.set_password(places.data, "of the old machine")
    well("firstboot")
    assert AdminAccount(places.data).check("admin", "of the old machine") == "admin"
    done = box("password")
    assert isinstance(done.exception, BoxError)
    assert done.exception.code == "password_unknown"
    assert "--reset" in str(done.exception)


def test_others_may_not(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BoxError, match="sudo danqing box password"):
        password.show(places)
