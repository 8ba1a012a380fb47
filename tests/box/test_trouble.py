"""Accidents: killed services, a full disk, a wrong clock, a driver that is too old, a notice that the machine goes away."""

from __future__ import annotations

import json
import shutil
import statistics
import time
import urllib.error
from pathlib import Path

import pytest

from tests.box.conftest import Box, until

ROUNDS = 3
DATA = "/var/lib/danqing/data"
LOCAL = "/etc/danqing/local.env"


def gone_for(box: Box) -> float:
    """Seconds until port 80 answers again, whatever it says."""
    return until(lambda: box.get("/")[0], "answering")


def test_killed_nginx_is_back(box: Box) -> None:
    box.wait_ready()
    times = []
    for _ in range(ROUNDS):
        box.sh("systemctl kill --signal=KILL nginx")  # the first process and all that it started
        times.append(gone_for(box))
    print(f"\nnginx: port 80 {statistics.median(times):.2f} s (median of {ROUNDS}; {_told(times)})")
    assert box.sh("systemctl is-active nginx") == "active"


@pytest.mark.parametrize("unit", ["danqing-web", "danqing-engine"])
def test_killed_app_draws_again(box: Box, unit: str) -> None:
    port, draw = [], []
    for _ in range(ROUNDS):
        box.wait_ready()
        began = time.monotonic()
        box.sh(f"kill -9 $(systemctl show -p MainPID --value {unit})")
        port.append(gone_for(box))
        until(lambda: _drawn(box), "drawing")
        draw.append(time.monotonic() - began)
    print(f"\n{unit}: port 80 {statistics.median(port):.2f} s (median of {ROUNDS}; {_told(port)})")
    print(f"{unit}: a picture {statistics.median(draw):.1f} s (median of {ROUNDS}; {_told(draw)})")


def _told(times: list[float]) -> str:
    return ", ".join(f"{seconds:.2f}" for seconds in sorted(times))


def _drawn(box: Box) -> bool:
    try:
        return bool(box.draw(steps=1)["images"])
    except (OSError, ValueError):
        return False


def test_killed_app_is_a_waiting_page_not_a_bare_error(box: Box) -> None:
    box.wait_ready()
    box.sh("systemctl stop danqing-web")
    status, page = box.get("/", Accept="text/html", Accept_Language="en")
    box.sh("systemctl start danqing-web")
    assert status in (200, 502, 503)
    assert "<center>nginx" not in page
    assert "Danqing" in page or "丹青" in page
    box.wait_ready()


def _again(box: Box, between: str) -> None:
    """The web process down, `between`, and up again. The engine, which is slow to start, goes on: it sees the same disks."""
    box.sh(f"systemctl stop danqing-web; {between}; systemctl start danqing-web")
    box.wait_ready()


def test_full_disk_of_pictures_is_told_and_over_when_there_is_room(box: Box) -> None:
    """A small disk is laid over the folder of pictures, so that this host's own stays out of it."""
    box.wait_ready()
    outputs = f"{DATA}/outputs"
    full = (
        f"mkdir -p {outputs}; mount -t tmpfs -o size=64k,mode=0777 full {outputs}; head -c 1M /dev/zero >{outputs}/fill"
    )
    try:
        _again(box, f"{full}; printf 'DANQING_DISK_TRIES=1\\n' >>{LOCAL}")
        assert _refusal(box) == 507
        assert box.sh("systemctl is-active danqing-web danqing-engine") == "active\nactive"
    finally:
        _again(box, f"umount -l {outputs}; sed -i /DISK_TRIES/d {LOCAL}")
    until(lambda: _drawn(box), "drawing")


def test_full_data_volume_refuses_at_once_and_is_over_when_there_is_room(box: Box) -> None:
    """The data folder lies on a disk with less room than the reserve; the page goes on."""
    box.wait_ready()
    small = f"mkdir -p /run/small; mount -t tmpfs -o size=100m small /run/small; cp -a {DATA}/. /run/small/"
    try:
        _again(box, f"{small}; chown danqing: /run/small; mount --bind /run/small {DATA}")
        assert _refusal(box) == 507
    finally:
        _again(box, f"umount -l {DATA}; umount -l /run/small")
    until(lambda: _drawn(box), "drawing")


def _refusal(box: Box) -> int:
    """Status of a picture that cannot be stored, 200 where it could."""
    try:
        box.draw()
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")
        print(f"\nfull disk: {error.code} {told[:200]}")
        assert json.loads(told)["error"] == "DiskFull"
        return error.code
    return 200


def test_moved_clock_stops_nothing(box: Box) -> None:
    """A container shares this host's clock, so a library shows the two services another one."""
    library = next(iter(Path("/usr/lib/x86_64-linux-gnu/faketime").glob("libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("needs Debian's libfaketime")
    box.wait_ready()
    shutil.copy(library, box.root / "usr/lib/libfaketime.so")
    units = ("danqing-web", "danqing-engine")
    folders = [f"/run/systemd/system/{unit}.service.d" for unit in units]
    try:
        for moved in ("-400d", "+400d"):
            lines = ["[Service]", "Environment=LD_PRELOAD=/usr/lib/libfaketime.so", f"Environment=FAKETIME={moved}"]
            lines += ["Environment=FAKETIME_DONT_FAKE_MONOTONIC=1"]
            for folder in folders:
                text = "\\n".join(lines)
                box.sh(f"mkdir -p {folder}; printf '{text}\\n' >{folder}/clock.conf")
            box.sh("systemctl daemon-reload; systemctl restart danqing-engine danqing-web")
            until(lambda: _drawn(box), f"drawing with a clock of {moved}")
            assert box.sh("systemctl is-active danqing-web danqing-engine") == "active\nactive"
    finally:
        box.sh(f"rm -r {' '.join(folders)}; systemctl daemon-reload; systemctl restart danqing-engine danqing-web")
    until(lambda: _drawn(box), "drawing")


def test_spot_notice_holds_the_queue_and_stops_in_time(launch_spot: Box) -> None:
    box = launch_spot
    box.wait_ready()
    notice = {"action": "terminate", "time": "2030-01-01T00:00:00Z"}
    box.made.ask("metadata", instance=box.instance, path="spot/instance-action", value=json.dumps(notice))
    seconds = until(lambda: box.sh("systemctl is-active danqing-web", check=False) != "active", "stopped")
    print(f"\nspot notice to services stopped: {seconds:.1f} s")
    status, page = box.get("/")
    assert status
    assert "<center>nginx" not in page


@pytest.fixture
def launch_spot(launch: object) -> Box:
    return launch("third", "--spot")  # type: ignore[operator]


def test_driver_too_old_is_a_clear_page_and_no_restart_loop(box: Box) -> None:
    """A driver of long ago is shown to the box by nvidia-smi, and torch's build says CUDA 12."""
    box.wait_ready()
    version = "/opt/danqing/venv/lib/python3.11/site-packages/torch/version.py"
    smi = "#!/bin/sh\\necho Tesla T4, 450.80.02, 15360, 0"
    box.sh(f"cp {version} /root/version.py; printf '{smi}\\n' >/usr/bin/nvidia-smi; chmod 755 /usr/bin/nvidia-smi")
    box.sh(
        f"sed -i \"s/^cuda.*/cuda: str = '12.6'/\" {version}; systemctl stop danqing-engine; systemctl start danqing-engine; true"
    )
    try:
        until(lambda: box.sh("systemctl is-active danqing-engine", check=False) != "active", "refused")
        restarts = box.sh("systemctl show -p NRestarts --value danqing-engine")
        time.sleep(5)
        assert box.sh("systemctl show -p NRestarts --value danqing-engine") == restarts
        assert box.sh("systemctl is-active danqing-engine", check=False) in ("inactive", "failed")
        log = box.sh("journalctl -u danqing-engine -n 20 -o cat --no-pager")
        assert "525.60.13" in log, log
        assert box.sh("systemctl is-active danqing-web") == "active"
        status, told = box.get("/readyz")
        assert status == 503
        assert "driver" in told or "驱动" in told or "driver" in box.sh("cat /run/danqing/status.json")
    finally:
        box.sh(f"mv /root/version.py {version}; rm /usr/bin/nvidia-smi; systemctl restart danqing-engine; true")
    until(lambda: _drawn(box), "drawing")
