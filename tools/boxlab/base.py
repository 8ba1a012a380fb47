"""The base image: a Debian 12 with what a cloud image has (systemd, cloud-init, ssh, Python), in the DLAMI's place."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from .host import LabError, run
from .lab import cache, forget_others

PACKAGES = (
    "systemd,systemd-sysv,libpam-systemd,dbus,openssh-server,sudo,cloud-init,python3,python3-apt,iproute2,"
    "ca-certificates,curl,procps,less,kmod,locales,e2fsprogs,util-linux"
)
CUSTOMIZE = Path(__file__).with_name("assets") / "customize.sh"
SUITE = "bookworm"


def sources() -> list[str]:
    """apt lines of the mirrors that this machine itself uses for Debian 12, the archive's own where it runs another system."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    listing = run("apt-get", "indextargets", "--format", form, "Created-By: Packages", check=False).stdout or ""
    rows = {tuple(line.split()) for line in listing.splitlines() if len(line.split()) == 4}
    found = [f"deb {uri} {suite} main" for uri, suite, part, origin in sorted(rows) if _wanted(suite, part, origin)]
    if any(line.split()[2] == SUITE for line in found):
        return found
    return [
        f"deb http://deb.debian.org/debian {SUITE} main",
        f"deb http://deb.debian.org/debian {SUITE}-updates main",
        f"deb http://deb.debian.org/debian-security {SUITE}-security main",
    ]


def _wanted(suite: str, component: str, origin: str) -> bool:
    return component == "main" and origin == "Debian" and suite in {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}


def folder() -> Path:
    """The base as a folder, made when this machine has none of these inputs yet (half a minute to two minutes)."""
    lines = sources()
    inputs = "\n".join([PACKAGES, *lines, CUSTOMIZE.read_text()])
    with cache() as shared:
        base = shared / f"base-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
        if not base.exists():
            part = base.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            _make(part, lines)
            # mmdebstrap empties apt's lists; as fresh as they look, Ansible would not fetch them
            os.utime(part / "var/lib/apt/lists", (0, 0))
            part.rename(base)
            forget_others(base, "base")
    return base


def _make(target: Path, lines: list[str]) -> None:
    options = ["--aptopt=Acquire::Check-Valid-Until false", "--aptopt=Acquire::Check-Date false"]
    options += ["--aptopt=Acquire::Retries 3", "--dpkgopt=force-unsafe-io"]
    options += ["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    options += [f"--include={PACKAGES}", f"--customize-hook={CUSTOMIZE} $1"]
    for attempt in (1, 2, 3):
        done = run("mmdebstrap", "--mode=root", "--variant=minbase", *options, SUITE, target, *lines, check=False)
        if done.returncode == 0:
            return
        shutil.rmtree(target, ignore_errors=True)
        if attempt == 3:
            raise LabError(f"mmdebstrap failed:\n{done.stdout[-1500:]}")
