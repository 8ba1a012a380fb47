"""Booting: the page comes before Python, first-boot work is done once, clones differ, reboot and stop change nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxlab import lab

from tests.box.conftest import Box, until

OWN = ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/root/danqing-password")


@pytest.fixture
def raw(made: lab.Lab, image: str) -> Iterator[Box]:
    """A machine at the moment of RunInstances, without waiting for anything."""
    client = made.client()
    row = client.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        InstanceType="g5.xlarge",
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
    )["Instances"][0]
    yield Box(made, row["InstanceId"])
    client.terminate_instances(InstanceIds=[row["InstanceId"]])


def test_waiting_page_comes_before_the_app(raw: Box) -> None:
    until(lambda: raw.get("/")[0], "answering")
    seconds = time.time() - raw.row["booted_at"]
    status, page = raw.get("/", Accept="text/html", Accept_Language="en")
    print(f"\nwaiting page {seconds:.2f} s after systemd's start (status {status})")
    assert "<html" in page.lower()
    assert "Danqing" in page or "丹青" in page
    print(f"ready after {raw.wait_ready() + seconds:.1f} s")
    nginx, web = (
        int(raw.sh(f"systemctl show -p ActiveEnterTimestampMonotonic --value {unit}"))
        for unit in ("nginx", "danqing-web")
    )
    assert 0 < nginx < web


def own(box: Box) -> dict[str, str]:
    return {path: box.sh(f"cat {path}") for path in OWN}


def test_clones_differ_in_everything_that_must_be_unique(box: Box, second: Box) -> None:
    one, two = own(box), own(second)
    assert all(one.values())
    assert [path for path in OWN if one[path] == two[path]] == []
    # Not the database of users: until its first checkpoint the file is its empty tables, the same everywhere.
    secrets = "find /var/lib/danqing/data/secrets -type f ! -name 'users.db*' | sort | xargs sha256sum"
    mine = {line.split()[0] for line in box.sh(secrets).splitlines()}
    theirs = {line.split()[0] for line in second.sh(secrets).splitlines()}
    assert mine
    assert not mine & theirs


def test_reboot_keeps_what_was_made_at_the_first_boot(second: Box) -> None:
    before = own(second)
    boot = second.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestamp --value")
    mark = second.sh("stat -c %Y /var/lib/danqing/firstboot.json")
    started = second.row["booted_at"]
    second.made.client().reboot_instances(InstanceIds=[second.instance])
    until(lambda: second.row["booted_at"] > started, "rebooted")
    seconds = second.wait_ready()
    print(f"\nready again {seconds:.1f} s after the reboot")
    assert own(second) == before
    assert second.sh("stat -c %Y /var/lib/danqing/firstboot.json") == mark
    assert second.sh("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestamp --value") != boot
    assert second.draw()["images"]
    assert second.sh("systemctl --failed --no-legend --plain") == ""


def test_second_boot_says_that_it_is_not_the_first(second: Box) -> None:
    report = second.sh("danqing box report")
    line = next(line for line in report.splitlines() if line.startswith("firstboot"))
    assert "password was made" not in line


def test_stop_and_start_by_the_api(second: Box) -> None:
    before = own(second)
    client = second.made.client()
    client.stop_instances(InstanceIds=[second.instance])
    assert not second.row["running"]
    assert second.get("/")[0] == 0
    client.start_instances(InstanceIds=[second.instance])
    second.wait_ready()
    assert own(second) == before


def test_console_shows_no_secret(second: Box) -> None:
    console = Path(second.row["console"]).read_text(errors="replace")
    assert second.password not in console
    assert not re.search(r"PRIVATE KEY", console)
