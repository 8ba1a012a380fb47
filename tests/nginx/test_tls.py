"""TLS is one setting: the script writes nginx's server for it, and nginx takes it."""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nginx.conftest import NGINX, ROOT, Door, free_port
from tests.nginx.upstream import Upstream

SCRIPT = ROOT / "nginx/danqing-tls"


def tls(door: Door, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script with nginx's real check, and without a systemd."""
    tools = door.root / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "nginx").write_text(f'#!/bin/sh\nexec {NGINX} -c {door.config} "$@"\n')
    (tools / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "DANQING_NGINX": str(door.config.parent / "danqing"),
        "DANQING_TLS": str(door.root / "tls"),
        **more,
    }
    return subprocess.run(["sh", str(SCRIPT), *arguments], check=False, capture_output=True, text=True, env=environment)


def certificate(folder: Path) -> None:
    folder.mkdir()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run([*command, *files], check=True, capture_output=True)


def test_own_certificate(make_door: Callable[..., Door]) -> None:
    door = make_door()
    certificate(door.root / "tls")
    done = tls(door, "boot", DANQING_BOX_TLS="own")
    assert done.returncode == 0, done.stderr
    assert (door.root / "tls/privkey.pem").stat().st_mode & 0o777 == 0o600
    door.stop()
    port, conf = free_port(), door.config.parent / "danqing/tls.conf"
    conf.write_text(conf.read_text().replace("listen 443 ", f"listen 127.0.0.1:{port} "))
    door.start()
    with Upstream(door.upstream_port):
        trust = ssl.create_default_context(cafile=str(door.root / "tls/fullchain.pem"))
        trust.check_hostname = False
        secure = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trust)
        secure.request("GET", "/echo")
        answer = secure.getresponse()
        assert b'"x-forwarded-proto": "https"' in answer.read()
        secure.close()
    plain = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    plain.request("GET", "/x?y=1", headers={"Host": "box.example"})
    answer = plain.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, "https://box.example/x?y=1")
    plain.close()


def test_both_families_of_addresses(make_door: Callable[..., Door]) -> None:
    """The plain page on IPv6 sends people to the encrypted one: it has to be there, too."""
    door = make_door()
    certificate(door.root / "tls")
    site = door.config.parent / "danqing/site.conf"
    text = site.read_text()
    site.write_text(text.replace("server_name _;", "listen [::]:80 default_server;\n    server_name _;"))
    # The check binds nothing that is in use: the ports of the box are free or not, here.
    done = tls(door, "own")
    conf = (door.config.parent / "danqing/tls.conf").read_text() if done.returncode == 0 else done.stderr
    assert "    listen [::]:443 ssl http2 default_server;\n" in conf
    site.write_text(text)
    assert tls(door, "own").returncode == 0
    assert "[::]" not in (door.config.parent / "danqing/tls.conf").read_text()


def test_off_again(make_door: Callable[..., Door]) -> None:
    door = make_door()
    certificate(door.root / "tls")
    assert tls(door, "own").returncode == 0
    assert tls(door, "off").returncode == 0
    assert not (door.config.parent / "danqing/tls.conf").exists()
    assert "locations.inc" in (door.config.parent / "danqing/plain.inc").read_text()


def test_a_broken_certificate_leaves_the_box_reachable(make_door: Callable[..., Door]) -> None:
    door = make_door()
    (door.root / "tls").mkdir()
    for name in ("fullchain.pem", "privkey.pem"):
        (door.root / "tls" / name).write_text("nonsense")
    assert tls(door, "own").returncode == 1
    assert not (door.config.parent / "danqing/tls.conf").exists()


@pytest.mark.parametrize(
    ("environment", "status", "said"),
    [
        ({}, 0, ""),
        ({"DANQING_BOX_TLS": "off"}, 0, ""),
        ({"DANQING_BOX_TLS": "own"}, 1, "fullchain.pem is missing"),
        ({"DANQING_BOX_TLS": "letsencrypt"}, 1, "DANQING_BOX_TLS_NAME"),
        ({"DANQING_BOX_TLS": "maybe"}, 1, "off, own or letsencrypt"),
    ],
)
def test_what_the_setting_says(
    make_door: Callable[..., Door], environment: dict[str, str], status: int, said: str
) -> None:
    done = tls(make_door(), "boot", **environment)
    assert done.returncode == status
    assert said in done.stderr
