"""A box that runs, looked at from inside over SSH (testinfra) and from its network."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from boxlab import net

from tests.box.conftest import Box, in_lab

UNITS = ("danqing-web", "danqing-engine", "nginx", "ssh")
SANDBOX = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes"}
DOORS = {22, 80}


@pytest.mark.parametrize("unit", UNITS)
def test_service_runs_and_starts_at_boot(host: Any, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_no_unit_failed(box: Box) -> None:
    assert box.sh("systemctl --failed --no-legend --plain") == ""
    assert box.sh("systemctl is-system-running --wait", check=False) == "running"


def test_app_listens_on_loopback_only_and_nginx_on_every_address(host: Any) -> None:
    assert host.socket("tcp://127.0.0.1:7860").is_listening
    assert not host.socket("tcp://0.0.0.0:7860").is_listening
    assert host.socket("tcp://0.0.0.0:80").is_listening


def test_only_the_doors_are_open_from_the_network(box: Box) -> None:
    address = box.address

    def opened(port: int) -> bool:
        try:
            net.connect(box.made.namespace, address, port, timeout=2).close()
        except OSError:
            return False
        return True

    ports = [*range(1, 1200), *range(7800, 7900), 3000, 3306, 5432, 6379, 8000, 8080, 8443, 8888, 9090, 9100, 11211]
    with ThreadPoolExecutor(32) as pool:
        found = {port for port, is_open in zip(ports, pool.map(opened, ports), strict=True) if is_open}
    assert found == DOORS


def test_nothing_else_listens_beyond_loopback(box: Box) -> None:
    lines = box.sh("ss -Hltun").splitlines()
    local = [re.split(r"\s+", line)[4] for line in lines if line.startswith("tcp")]
    beyond = {int(found.rsplit(":", 1)[1]) for found in local if not found.startswith(("127.", "[::1]"))}
    assert beyond == DOORS
    datagrams = [line for line in lines if line.startswith("udp") and not re.search(r"\s(127\.|\[::1\])", line)]
    assert datagrams == []


@pytest.mark.parametrize("unit", ["danqing-web", "danqing-engine"])
def test_services_run_as_their_own_user_in_a_sandbox(box: Box, unit: str) -> None:
    told = dict(line.split("=", 1) for line in box.sh(f"systemctl show --all {unit}").splitlines() if "=" in line)
    assert told["User"] == "danqing"
    assert {name: told[name] for name in SANDBOX} == SANDBOX
    assert told["CapabilityBoundingSet"] == ""
    user = box.sh(f"ps -o user= -p {told['MainPID']}")
    assert user == "danqing"


@pytest.mark.parametrize(("unit", "most"), [("danqing-web", 3.0), ("danqing-engine", 5.0)])
def test_exposure_is_small(box: Box, unit: str, most: float) -> None:
    last = box.sh(f"systemd-analyze security --no-pager {unit}.service").splitlines()[-1]
    found = re.search(r"exposure level for \S+ ([\d.]+)", last)
    assert found, last
    print(f"\n{unit}: exposure {found[1]}")
    assert float(found[1]) <= most


def test_user_has_no_shell_and_no_password(host: Any) -> None:
    user = host.user("danqing")
    assert user.shell == "/usr/sbin/nologin"
    assert user.password.startswith(("!", "*"))


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/root/danqing-password", "root", 0o600),
        ("/var/lib/danqing/data", "danqing", 0o750),
        ("/etc/danqing/danqing.env", "root", 0o644),
        ("/opt/danqing/venv/bin/danqing", "root", 0o755),
    ],
)
def test_files_have_owner_and_mode(host: Any, path: str, owner: str, mode: int) -> None:
    found = host.file(path)
    assert (found.user, found.mode) == (owner, mode)


def test_services_cannot_write_the_program_or_read_the_password(box: Box) -> None:
    assert box.sh("find /opt/danqing -user danqing | head -3") == ""
    script = "import pathlib; print(pathlib.Path('/root/danqing-password').read_text())"
    assert "Permission denied" in box.sh(f'runuser -u danqing -- python3 -c "{script}" 2>&1', check=False)


def test_language_is_chinese(host: Any, box: Box) -> None:
    assert "LANG=zh_CN.UTF-8" in host.file("/etc/default/locale").content_string
    assert host.package("fonts-noto-cjk").is_installed
    assert "zh_CN.utf8" in host.check_output("locale -a")


def test_metadata_is_version_two_only(box: Box) -> None:
    base = "http://169.254.169.254/latest"
    status = box.sh(f"curl -s -m 5 -o /dev/null -w '%{{http_code}}' {base}/meta-data/instance-id")
    assert status == "401"
    token = box.sh(f"curl -s -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {base}/api/token")
    known = box.sh(f"curl -s -m 5 -H 'X-aws-ec2-metadata-token: {token}' {base}/meta-data/instance-id")
    assert known == box.instance


def test_launch_demanded_imdsv2(box: Box) -> None:
    (reservation,) = box.made.client().describe_instances(InstanceIds=[box.instance])["Reservations"]
    options = reservation["Instances"][0]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


def test_logs_are_bounded_and_hold_no_password(box: Box) -> None:
    password = box.password
    assert len(password) >= 16
    assert box.sh(f"journalctl --no-pager -o cat | grep -cF -- '{password}'; true") == "0"
    assert box.sh(f"grep -rlF -- '{password}' /var/log /etc /var/lib/cloud 2>/dev/null; true") == ""
    assert "SystemMaxUse=" in box.sh("cat /etc/systemd/journald.conf.d/danqing.conf")


def test_password_opens_the_page_and_nothing_else_does(box: Box) -> None:
    assert box.get("/sdapi/v1/options")[0] == 401
    assert box.draw()["images"]


def test_without_a_login_there_is_ready_or_not_and_nothing_more(box: Box) -> None:
    status, body = box.get("/readyz")
    assert status == 200
    assert "admin" not in body
    for path in ("/metrics", "/sdapi/v1/progress", "/sdapi/v1/sd-models"):
        assert box.get(path)[0] in (401, 403, 404), path


def test_log_of_visits_has_no_query_strings(box: Box) -> None:
    box.get("/readyz?token=very-secret-word")
    assert box.sh("cat /var/log/nginx/access.log 2>/dev/null | grep -c very-secret-word; true") == "0"


def test_configuration_of_nginx_and_ssh_is_sound(box: Box) -> None:
    box.sh("nginx -t -q && sshd -t")
    told = box.sh("sshd -T")
    assert "passwordauthentication no" in told
    assert "permitrootlogin no" in told


def test_gpu_is_absent_and_the_box_says_so(box: Box) -> None:
    assert "CPU" in box.sh("danqing box gpu", check=False)
    status, _body = box.get("/readyz", Accept_Language="en")
    assert status == 200
    assert "gpu" in box.sh("cat /run/danqing/status.json")


def test_doctor_has_no_complaint_but_the_missing_gpu(box: Box) -> None:
    told = box.sh("danqing box doctor; echo status $?", check=False)
    print(f"\n{told}")
    assert "status 0" in told


def test_boot_report_has_every_phase_with_its_time(box: Box) -> None:
    report = box.sh("danqing box report")
    for name in ("firstboot", "page", "engine", "torch", "model", "warmup"):
        assert name in report


def test_ssh_from_the_lab_is_by_key_only(box: Box) -> None:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no -o BatchMode=yes"
    done = in_lab(box.made, f"ssh {options} admin@{box.address} true")
    assert done.returncode == 255
    assert "Permission denied (publickey" in done.stdout


def test_machine_has_its_own_name(box: Box) -> None:
    assert box.sh("hostname") == f"ip-{box.address.replace('.', '-')}"
