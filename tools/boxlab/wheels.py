"""The wheelhouse: every Python package of the box, fetched once on this machine and lent to the builder read-only."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from .host import ROOT, run
from .lab import cache, forget_others

SOURCES = ("app", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
GUEST = ("--python-version=3.11", "--implementation=cp", "--only-binary=:all:")
"""What pip is told when this machine's Python is not the base's."""


def wheelhouse() -> Path:
    """A folder of the wheels that constraints.txt pins for Danqing, without Danqing itself; cached by its inputs."""
    inputs = b"".join(path.read_bytes() for path in (ROOT / "constraints.txt", ROOT / "pyproject.toml", Path(__file__)))
    with cache() as shared:
        folder = shared / f"wheels-{hashlib.sha256(inputs).hexdigest()[:12]}"
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _fetch(part)
            part.rename(folder)
            forget_others(folder, "wheels")
    return folder


def _fetch(part: Path) -> None:
    own = danqing(part / "own")
    foreign = [] if sys.version_info[:2] == (3, 11) else GUEST
    wanted = [f"{own}[cloud]", "pip", "setuptools", "wheel"]
    run(*_pip("download"), "-d", part, "-c", ROOT / "constraints.txt", "--prefer-binary", *foreign, *wanted, cwd=part)
    shutil.rmtree(part / "own")
    for path in [*part.glob("danqing-*"), *part.glob("*.tar.gz")]:
        if not path.name.startswith("danqing-"):
            run(*_pip("wheel"), "--no-deps", "-w", part, path)
        path.unlink()


def _pip(command: str) -> list[str]:
    return [sys.executable, "-m", "pip", command, "-q", "--disable-pip-version-check"]


def danqing(folder: Path) -> Path:
    """Danqing's own wheel, built from a copy of this checkout (a build in place would pack what earlier ones left)."""
    source = folder / "source"
    shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(path, source / name)
    run(*_pip("wheel"), "--no-deps", "--no-build-isolation", "-w", folder, source)
    shutil.rmtree(source)
    return next(folder.glob("danqing-*.whl"))
