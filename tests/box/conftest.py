"""The box as people get it: baked by Packer and Ansible, launched on the emulated AWS, reached over its network.

BOX_LAB=folder in the environment takes a lab that is there (`build/box/labs/...` after `make box`) instead of a new one; it is
left running, the machines that the tests launched are not. BOX_INSTANCE=i-... besides takes a machine of it as the first box.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from boxlab import bake, lab, net, up  # noqa: E402
from boxlab.disks import Images  # noqa: E402
from boxlab.host import LabError, run, why_not  # noqa: E402

PATIENCE = 180.0
"""Seconds that something may take on a busy machine; what it does take is printed."""
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = why_not()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass
class Box:
    """An instance of the image."""

    made: lab.Lab
    instance: str

    @property
    def row(self) -> dict[str, Any]:
        return self.made.machines()[self.instance]

    @property
    def address(self) -> str:
        """In the lab's network."""
        return str(self.row["address"])

    @property
    def url(self) -> str:
        """Of port 80 at its public address."""
        return f"http://{self.row['public']}"

    @property
    def root(self) -> Path:
        """Its root disk, seen from this host."""
        return Path(self.row["root"])

    def sh(self, script: str, check: bool = True) -> str:
        """What a shell script, run as root inside, prints; without SSH, so that it works in any state."""
        pid = int(Path(f"/proc/{self.row['process']}/task/{self.row['process']}/children").read_text().split()[0])
        clean = [
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
        ]
        return run(*clean, "nsenter", "-t", str(pid), "-a", "--", "sh", "-c", script, check=check).stdout.strip()

    def get(self, path: str = "/", **headers: str) -> tuple[int, str]:
        """Status and body; (0, "") while nothing answers."""
        request = urllib.request.Request(self.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        try:
            with _OPENER.open(request, timeout=10) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except OSError:
            return 0, ""

    @property
    def password(self) -> str:
        return self.sh("danqing box password").splitlines()[-1]

    def draw(self, **more: Any) -> dict[str, Any]:
        """A picture over the API, with the administrator's password."""
        body = {"prompt": "a red circle", "steps": 2, "width": 128, "height": 128, "seed": 1, **more}
        token = __import__("base64").b64encode(f"admin:{self.password}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
        request = urllib.request.Request(f"{self.url}/sdapi/v1/txt2img", json.dumps(body).encode(), headers)
        with _OPENER.open(request, timeout=PATIENCE) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def ssh(self) -> str:
        """testinfra's address of it."""
        return f"ssh://admin@{self.row['public']}"

    def wait_ready(self) -> float:
        return until(self.ready, "ready")


def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> float:
    """Seconds until `true()` holds; fails after `patience`."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        with contextlib.suppress(OSError, LabError):
            if true():
                return time.monotonic() - began
        time.sleep(0.05)
    pytest.fail(f"not {what} after {patience:.0f} s")


@pytest.fixture(scope="session")
def made() -> Iterator[lab.Lab]:
    """A lab with the image."""
    if folder := os.environ.get("BOX_LAB"):
        yield lab.Lab.load(Path(folder).resolve())
        return
    fresh = up.built_lab(up.Teller(time.monotonic()))
    yield fresh
    lab.end(fresh.folder)


@pytest.fixture(scope="session")
def image(made: lab.Lab) -> str:
    """The image's id."""
    return next(name for name in Images(made.folder / "images").all() if name != made.base_image)


@pytest.fixture(scope="session")
def out(made: lab.Lab) -> Path:
    """What the bake put beside the image."""
    here = made.folder / "out"
    if here.exists():
        return here
    assert made.kept
    return made.kept.layer.parent / "out"


@pytest.fixture(scope="session")
def launch(made: lab.Lab) -> Iterator[Callable[..., Box]]:
    """`make launch`'s own command; the machines end with the tests."""
    launched: list[str] = []

    def start(name: str, *more: str) -> Box:
        instance, _ = up.launch(made, "--name", name, *more, quiet=True)
        launched.append(instance)
        return Box(made, instance)

    yield start
    if launched:
        made.client().terminate_instances(InstanceIds=launched)


@pytest.fixture(scope="session")
def box(made: lab.Lab, launch: Callable[..., Box]) -> Box:
    """A box that has been launched and has drawn its first picture."""
    given = os.environ.get("BOX_INSTANCE")
    return Box(made, given) if given else launch("first")


@pytest.fixture(scope="session")
def second(launch: Callable[..., Box]) -> Box:
    """Another one of the same image."""
    return launch("second")


@pytest.fixture(scope="session")
def host(box: Box) -> Any:
    """testinfra on the box, over SSH as its administrator, with sudo."""
    testinfra = pytest.importorskip("testinfra")
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    return testinfra.get_host(box.ssh(), ssh_identity_file=str(box.made.key), ssh_extra_args=options, sudo=True)


@pytest.fixture(scope="session")
def sealed(made: lab.Lab, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image itself, never booted, mounted read-only."""
    place = made.folder / "sealed"
    place.mkdir(exist_ok=True)
    layers = ":".join(map(str, Images(made.folder / "images").get(image).layers))
    run("mount", "-t", "overlay", "danqing-image", "-o", f"ro,lowerdir={layers}", place)
    yield place
    run("umount", place)


def in_lab(made: lab.Lab, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the lab's gateway: another machine of the box's network."""
    return run("ip", "netns", "exec", made.namespace, *shlex.split(command), check=False)


__all__ = ["ROOT", "Box", "bake", "in_lab", "net", "until"]
