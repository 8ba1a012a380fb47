"""The wheelhouse: every Python package of the box, fetched once on this machine and lent to the builder read-only."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from .host import ROOT, run
from .lab import WORK


def wheelhouse() -> Path:
    """A folder of the wheels that constraints.txt pins for Danqing, without Danqing itself; cached by its inputs."""
    inputs = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    folder = WORK / "cache" / f"wheels-{hashlib.sha256(inputs).hexdigest()[:12]}"
    if folder.exists():
        return folder
    part = folder.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    _fetch(part)
    part.rename(folder)
    return folder


def _fetch(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    plain = folder / "constraints.part"
    shutil.copy(ROOT / "constraints.txt", plain)
    run(*pip, "download", "-d", folder, "-c", plain, "--prefer-binary", ROOT, "pip", "setuptools", "wheel", cwd="/")
    plain.unlink()
    for sdist in [*folder.glob("danqing-*"), *folder.glob("*.tar.gz")]:
        if not sdist.name.startswith("danqing"):
            run(*pip, "wheel", "--no-deps", "-w", folder, sdist)
        sdist.unlink()


def danqing(folder: Path) -> Path:
    """Danqing's own wheel, built from this checkout into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("danqing-*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    return next(folder.glob("danqing-*.whl"))
