"""A real nginx on a free port, with the box's files; only paths, ports and limits of speed are others."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nginx.upstream import Upstream

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the role's templates give with the values of group_vars."""
    playbook = [shutil.which("ansible-playbook", path=str(Path(sys.executable).parent)) or ""]
    if NGINX is None or not playbook[0]:
        pytest.skip("nginx or ansible-core is missing (apt-get install nginx; pip install -e .[box])")
    target = tmp_path_factory.mktemp("rendered")
    command = [*playbook, "-i", "localhost,", "-e", f"target={target}", str(Path(__file__).with_name("render.yml"))]
    environment = {**os.environ, "ANSIBLE_LOCAL_TEMP": str(target / "tmp"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*command, "-e", f"ansible_python_interpreter={sys.executable}"],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    assert done.returncode == 0, done.stdout
    return target


@dataclass
class Door:
    """nginx, and what stands behind it. Paths of the box lie below `root`."""

    root: Path
    port: int
    upstream_port: int
    config: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def status(self) -> Path:
        return self.root / "run/danqing/status.json"

    def start(self) -> None:
        assert NGINX
        check = subprocess.run([NGINX, "-t", "-q", "-c", str(self.config)], check=False, capture_output=True, text=True)
        assert check.returncode == 0, check.stderr
        self.process = subprocess.Popen([NGINX, "-c", str(self.config), "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.025)
        pytest.fail("nginx does not listen")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(20)


def installed(rendered: Path, root: Path, replace: dict[str, str]) -> Door:
    """The files as the role installs them, below `root`."""
    door = Door(root, free_port(), free_port(), root / "etc/nginx/nginx.conf")
    for folder in ("etc/nginx/danqing", "run/danqing", "var/log/nginx", "var/lib/nginx", "opt/danqing"):
        (root / folder).mkdir(parents=True)
    shutil.copytree(ROOT / "nginx/www", root / "opt/danqing/www")
    places = {f" /{name}/": f" {root}/{name}/" for name in ("etc/nginx/danqing", "run", "var", "opt")}
    for file in (*rendered.glob("*.*"), *(ROOT / "nginx").glob("*.inc")):
        text = file.read_text()
        for old, new in {**replace, **places}.items():
            text = text.replace(old, new)
        text = text.replace("user www-data;", "user root;" if os.geteuid() == 0 else "")
        text = text.replace("127.0.0.1:7860", f"127.0.0.1:{door.upstream_port}").replace(
            "listen [::]:80 default_server;", ""
        )
        text = text.replace("listen 80 ", f"listen 127.0.0.1:{door.port} ")
        target = door.config if file.name == "nginx.conf" else root / "etc/nginx/danqing" / file.name
        target.write_text(text)
    return door


@pytest.fixture
def make_door(rendered: Path, tmp_path: Path) -> Iterator[Callable[..., Door]]:
    if NGINX is None:
        pytest.skip("nginx is missing (Debian and Ubuntu: apt-get install nginx)")
    doors: list[Door] = []

    def make(**replace: str) -> Door:
        doors.append(installed(rendered, tmp_path, replace))
        doors[-1].start()
        return doors[-1]

    yield make
    for door in doors:
        door.stop()


@pytest.fixture
def door(make_door: Callable[..., Door]) -> Door:
    return make_door()


@pytest.fixture
def upstream(door: Door) -> Iterator[Upstream]:
    with Upstream(door.upstream_port) as server:
        yield server
