"""The web service's way out: shut by its unit, opened by an administrator, missed by the doctor where a setting needs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from danqing.app import ROWS
from danqing.box import outbound
from danqing.box.places import Places
from tests.boxcli.conftest import box, needs_root, well

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "danqing-web.service"


@needs_root
def test_opened_and_shut(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.box.tools.have", lambda name: False)  # this machine's own services stay as they are
    assert "this machine only" in well("outbound")
    for _ in range(2):
        assert "other machines" in well("outbound", "on")
    assert outbound.drop_in(places).stat().st_mode & 0o777 == 0o644
    assert "other machines" in well("outbound")
    for _ in range(2):
        assert "this machine only" in well("outbound", "off")
    assert not outbound.drop_in(places).exists()
    assert box("outbound", "maybe").exit_code == 2


def test_the_drop_in_takes_back_what_the_unit_says() -> None:
    shut = set(re.findall(r"^(IPAddress\w+)=\S", UNIT.read_text(), re.M))
    assert shut == {"IPAddressDeny", "IPAddressAllow"}
    assert shut == set(re.findall(r"^(\w+)=$", outbound.DROP_IN, re.M))


def test_what_needs_it_is_a_setting() -> None:
    assert set(outbound.NEED_IT) <= {row.name for row in ROWS}


def findings() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(box("doctor", "--json").output)
    return [row for row in rows if row["check"] == "outbound"]


def test_the_doctor_misses_it(places: Places) -> None:
    assert findings() == []
    places.data.mkdir(parents=True)
    (places.data / "settings.toml").write_text('webhooks = true\ns3_bucket = "ours"\nlog_level = "info"\n')
    environment = places.root / "etc/danqing/local.env"
    environment.parent.mkdir(parents=True)
    environment.write_text("# ours\nDANQING_OIDC_ISSUER=https://id.example.org\nDANQING_URL_INPUTS=false\n")
    (row,) = findings()
    assert row["state"] == "bad"
    assert "webhooks, oidc_issuer, s3_bucket" in row["en"]
    assert "sudo danqing box outbound on" in row["zh"]
    outbound.drop_in(places).parent.mkdir(parents=True)
    outbound.drop_in(places).write_text(outbound.DROP_IN)
    assert findings() == []
