"""A lab's names and files, how it is started, and how every trace of it is removed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import net
from .host import ROOT, LabError, run
from .machine import HIERARCHIES, kill_group, remove_groups

WORK = ROOT / "build" / "box"
"""Where labs and what they share (base, wheels) lie."""
KEY_NAME = "danqing-lab"
BASE_IMAGE = "ami-0deb12000000000aa"
REGION = "us-east-1"
ACCOUNT = "123456789012"
"""The emulated AWS's only account."""


@contextlib.contextmanager
def cache() -> Iterator[Path]:
    """The folder that labs share; who comes second waits and finds the work done."""
    folder = WORK / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def forget_others(newest: Path, prefix: str) -> None:
    """Remove older folders of the cache that begin so and that no lab uses."""
    used = {str(path) for folder in all_labs() for path in (Lab.load(folder).base, Lab.load(folder).wheelhouse)}
    for path in newest.parent.glob(f"{prefix}-*"):
        if path != newest and str(path) not in used:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Kept:
    """An image of an earlier bake that lies in the cache: its id, its name and its topmost layer."""

    image: str
    name: str
    layer: Path
    base: Path | None = None
    """What it was baked on."""


@dataclass(frozen=True)
class Lab:
    """One lab: `name` is four hexadecimal digits, everything it makes on this host carries them."""

    name: str
    folder: Path
    base: Path
    wheelhouse: Path
    port: int
    base_image: str = BASE_IMAGE
    kept: Kept | None = None

    @property
    def namespace(self) -> str:
        return f"dq{self.name}"

    @property
    def octet(self) -> int:
        """Second part of the loopback addresses that play public ones: 127.`octet`.0.N, from 10 to 249."""
        return 10 + int(self.name, 16) % 240

    @property
    def endpoint(self) -> str:
        """The emulated AWS for commands on this host."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def inner_endpoint(self) -> str:
        """The same for commands inside the lab's network."""
        return f"http://{net.GATEWAY}:{self.port}"

    @property
    def key(self) -> Path:
        """Private key of the key pair `danqing-lab`."""
        return self.folder / "key"

    def save(self) -> None:
        (self.folder / "lab.json").write_text(json.dumps(asdict(self), indent=1, default=str))

    @classmethod
    def load(cls, folder: Path) -> Lab:
        row = json.loads((folder / "lab.json").read_text())
        paths = {name: Path(row[name]) for name in ("folder", "base", "wheelhouse")}
        kept = row["kept"] and Kept(row["kept"]["image"], row["kept"]["name"], Path(row["kept"]["layer"]))
        return cls(**{**row, **paths, "kept": kept})

    def machines(self) -> dict[str, dict[str, Any]]:
        """The lab's instances: address, public address, process id, root folder, console log."""
        with urllib.request.urlopen(f"{self.endpoint}/_lab/machines", timeout=10) as answer:
            found: dict[str, dict[str, Any]] = json.load(answer)
        return found

    def ask(self, question: str, **asked: Any) -> dict[str, Any]:
        """POST a question of the lab's own: `metadata` or `door` (see cloud.py)."""
        request = urllib.request.Request(f"{self.endpoint}/_lab/{question}", json.dumps(asked).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def environment(self) -> dict[str, str]:
        """The environment for AWS clients of this lab: made-up credentials, nothing of the caller's own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {
            **kept,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "ec2") -> Any:
        import boto3

        return boto3.client(
            service,
            REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


def create(base: Path, wheelhouse: Path, kept: Kept | None = None) -> Lab:
    """Start a lab on that base folder, with the image of an earlier bake if there is one; it runs until `end`.

    Raises:
        LabError: its process ended at once; the message has the log's end.
    """
    name = secrets.token_hex(2)
    lab = Lab(name, WORK / "labs" / name, base, wheelhouse, _free_port(), kept=kept)
    lab.folder.mkdir(parents=True)
    lab.save()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", KEY_NAME, "-f", lab.key)
    images = [_image(lab.base_image, "debian-12-amd64-lab", "136693071363")]
    images += [_image(kept.image, kept.name, ACCOUNT)] if kept else []
    (lab.folder / "amis.json").write_text(json.dumps(images))
    _start(lab)
    lab.client().import_key_pair(KeyName=KEY_NAME, PublicKeyMaterial=lab.key.with_suffix(".pub").read_bytes())
    if kept:
        lab.client().create_tags(Resources=[kept.image], Tags=[{"Key": "danqing:user", "Value": "admin"}])
    return lab


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _image(image: str, name: str, owner: str) -> dict[str, Any]:
    """An image as the emulated AWS lists it from its start."""
    return {
        "ami_id": image,
        "name": name,
        "description": name,
        "owner_id": owner,
        "public": owner != ACCOUNT,
        "architecture": "x86_64",
        "virtualization_type": "hvm",
        "hypervisor": "xen",
        "state": "available",
        "image_type": "machine",
        "image_location": f"{owner}/{name}",
        "platform": None,
        "root_device_name": "/dev/xvda",
        "root_device_type": "ebs",
        "sriov": "simple",
        "creation_date": "2026-11-01T00:00:00.000Z",
    }


def _start(lab: Lab) -> None:
    with (lab.folder / "lab.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "boxlab", "serve", str(lab.folder)],
            env={**lab.environment(), "PYTHONPATH": str(ROOT / "tools")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(600):
        if (lab.folder / "ready").exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    tail = (lab.folder / "lab.log").read_text()[-2000:]
    end(lab.folder)
    raise LabError(f"the lab did not start:\n{tail}")


def all_labs() -> list[Path]:
    """Folders of the labs that exist, running or left over."""
    folder = WORK / "labs"
    return sorted(path for path in folder.iterdir() if (path / "lab.json").exists()) if folder.is_dir() else []


def end(folder: Path) -> None:
    """End a lab and remove all that it made, also when its process died before: machines, mounts, namespaces, files."""
    lab = Lab.load(folder)
    _end_process(lab)
    for hierarchy in HIERARCHIES:
        for group in Path("/sys/fs/cgroup", hierarchy).glob(f"{lab.namespace}-*"):
            kill_group(group.name)
            remove_groups(group.name)
    _end_slirps(lab)
    for target in _mounts(folder):
        run("umount", target, check=False)
    from .volumes import free_loops

    free_loops(folder)
    for namespace in net.names(lab.namespace):
        net.remove(namespace)
    shutil.rmtree(folder, ignore_errors=True)


def _end_process(lab: Lab) -> None:
    ready = lab.folder / "ready"
    if not ready.exists():
        return
    pid = json.loads(ready.read_text())["pid"]
    if str(lab.folder) not in _command_line(pid):
        return
    os.kill(pid, signal.SIGTERM)
    for _ in range(300):
        if not Path(f"/proc/{pid}").exists() or not _command_line(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)


def _command_line(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _end_slirps(lab: Lab) -> None:
    """What a killed lab left running outside its control groups."""
    for entry in os.listdir("/proc"):
        if (
            entry.isdigit()
            and f"/run/netns/{lab.namespace}-" in (line := _command_line(entry))
            and "slirp4netns" in line
        ):
            os.kill(int(entry), signal.SIGTERM)


def _mounts(folder: Path) -> list[str]:
    """Mount points under `folder`, the innermost first."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)
