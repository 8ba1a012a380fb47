"""This machine: whether it can run a lab, what has to be installed first, and how commands are run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "packer": "packer",
    "ip": "iproute2",
    "slirp4netns": "slirp4netns",
    "ssh": "openssh-client",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
}
"""Command -> the Debian package that brings it."""

TEST_PACKAGES = ("packer", "nginx-light", "shellcheck", "systemd", "libfaketime")
"""What the tests of the image's parts use besides."""


class LabError(Exception):
    """The lab cannot go on; the message says why and what to do."""


def run(
    *command: str | Path, check: bool = True, quiet: bool = True, **more: object
) -> subprocess.CompletedProcess[str]:
    """Run a command and return it finished, with its output as text.

    Raises:
        LabError: it failed and `check` is set; the message ends with its last lines.
    """
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {}
    done = subprocess.run([str(part) for part in command], text=True, check=False, **{**kept, **more})  # type: ignore[call-overload]
    if check and done.returncode:
        tail = "\n".join((done.stdout or "").splitlines()[-15:])
        raise LabError(f"{' '.join(map(str, command))[:200]}: status {done.returncode}\n{tail}")
    return done


def missing() -> list[str]:
    """Debian packages that the lab needs and this machine lacks."""
    return sorted({package for command, package in PACKAGES.items() if not shutil.which(command, path=_path())})


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def why_not(install: bool = False) -> str:
    """Why no lab can run here, "" when it can; with `install`, root on Debian or Ubuntu installs what is missing first."""
    if not Path("/sys/fs/cgroup").is_dir() or os.uname().machine != "x86_64":
        return "the lab needs Linux on x86-64 with cgroups"
    if os.geteuid() != 0:
        return "the lab makes network namespaces and boots containers, which needs root: sudo make box"
    packages = missing()
    if packages and install and shutil.which("apt-get"):
        apt_install(packages)
        packages = missing()
    if packages:
        return f"missing here (Debian 12: apt-get install {' '.join(packages)})"
    return _no_namespaces()


def _no_namespaces() -> str:
    tried = run("unshare", "--net", "--mount", "true", check=False)
    return "" if tried.returncode == 0 else "this machine allows no new namespaces (a container without privileges?)"


def apt_install(packages: Sequence[str]) -> None:
    """Install Debian packages, services not started; failures show in what is still missing afterwards."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    apt = ["apt-get", "-y", "-qq", "-o", "Acquire::Retries=3"]
    for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *packages]):
        run(*command, check=False, env=environment)
