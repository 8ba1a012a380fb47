"""`make setup` on machines of all sorts: no Python, an old one, no venv module, an interrupted run, a tree that moved.

The real script runs in a small tree of its own, whose dependencies are two empty wheels made here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASE = Path(getattr(sys, "_base_executable", sys.executable))

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "danqing"
version = "0.1"
"""

BACKEND = """
import zipfile
from pathlib import Path

def build_editable(directory, config_settings=None, metadata_directory=None):
    name = "danqing-0.1-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory) / name, "w") as wheel:
        info = "danqing-0.1.dist-info/"
        wheel.writestr("danqing_here.pth", str(Path("app").resolve()))
        lines = ["Metadata-Version: 2.1", "Name: danqing", "Version: 0.1", "Provides-Extra: dev", "Requires-Dist: torch"]
        wheel.writestr(info + "METADATA", "\\n".join(lines))
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a blank in its name, as small as the script lets it be."""
    tree = tmp_path / "a tree"
    (tree / "app" / "danqing").mkdir(parents=True)
    (tree / "app" / "danqing" / "__init__.py").write_text("")
    (tree / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tree / "tools")
    shutil.copy(ROOT / "Makefile", tree)
    (tree / "pyproject.toml").write_text(PYPROJECT)
    (tree / "backend.py").write_text(BACKEND)
    (tree / "constraints.txt").write_text("torch==1.0\n")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        wheel(wheels, "torch", version)
    return tree


def setup(tree: Path, *, path: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """`make setup` in `tree`; with `path`, only the programs in that folder are there."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") and name != "VIRTUAL_ENV"}
    plain |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tree.parent / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    plain |= {"PYTHON": str(BASE)} if path is None else {"PATH": str(path)}
    command = [shutil.which("make") or "make", "setup"]
    return subprocess.run(
        command, cwd=tree, env=plain | environ, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def programs(folder: Path, **scripts: str) -> Path:
    """A folder with what the script needs besides Python, and with `scripts` by name."""
    folder.mkdir()
    for name in ("sh", "cat", "cksum", "dirname", "mkdir", "rm", "mv"):
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    for name, text in scripts.items():
        (folder / name.replace("_", ".")).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name.replace("_", ".")).chmod(0o755)
    return folder


def torch_version(tree: Path) -> str:
    command = [
        str(tree / ".venv" / "bin" / "python"),
        "-c",
        "import torch, danqing; print(torch.version, danqing.__file__)",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.strip()


@pytest.mark.slow
def test_it_makes_an_environment_repairs_it_and_follows_the_lists(tree: Path) -> None:
    first = setup(tree)
    assert first.returncode == 0, first.stderr
    assert "Ready: make run" in first.stderr
    inside = tree / ".venv" / "trace"
    inside.write_text("")

    again = setup(tree)
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert torch_version(tree) == f"1.0 {tree / 'app' / 'danqing' / '__init__.py'}"

    (tree / "constraints.txt").write_text("torch==2.0\n")
    assert setup(tree).returncode == 0
    assert torch_version(tree).startswith("2.0 ")
    assert inside.exists(), "a change of versions needs no new environment"

    (tree / ".venv" / "danqing-setup").write_text("begun\n")
    (tree / ".venv" / "bin" / "pip").unlink()
    repaired = setup(tree)
    assert repaired.returncode == 0, repaired.stderr
    assert "interrupted" in repaired.stderr
    assert not inside.exists()
    assert torch_version(tree).startswith("2.0 ")

    moved = tree.rename(tree.with_name("moved tree"))
    assert setup(moved).returncode == 0
    assert str(moved) in torch_version(moved)


def test_a_failed_install_is_not_taken_for_a_finished_one(tree: Path) -> None:
    (tree / "constraints.txt").write_text("torch==3.0\n")
    failed = setup(tree)
    assert failed.returncode != 0
    (tree / "constraints.txt").write_text("torch==1.0\n")
    assert setup(tree).returncode == 0
    assert torch_version(tree).startswith("1.0 ")


def test_an_old_python_is_told_what_helps(tree: Path, tmp_path: Path) -> None:
    old = 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac'
    told = setup(tree, path=programs(tmp_path / "bin", python3=old))
    assert told.returncode != 0
    assert "needs Python 3.11 or newer; found: Python 3.9.2" in told.stderr
    assert "uv venv --python 3.12 --seed .venv" in told.stderr
    assert not (tree / ".venv").exists()


def test_no_python_at_all(tree: Path, tmp_path: Path) -> None:
    told = setup(tree, path=programs(tmp_path / "bin"))
    assert told.returncode != 0
    assert "found: none" in told.stderr
    assert "apt install python3 python3-venv" in told.stderr


def test_a_shim_that_does_not_run_is_passed_over(tree: Path, tmp_path: Path) -> None:
    """Version managers put a python3.13 on the path that only says that it is not installed."""
    folder = programs(tmp_path / "bin", python3="exit 127", python3_13="exit 127", python3_12=f'exec "{BASE}" "$@"')
    made = setup(tree, path=folder)
    assert made.returncode == 0, made.stderr


def test_a_python_without_venv_is_told_the_package(tree: Path, tmp_path: Path) -> None:
    lame = f'case "$2" in *ensurepip*) exit 1;; *base_executable*) echo "$0";; *) exec "{BASE}" "$@";; esac'
    told = setup(tree, path=programs(tmp_path / "bin", python3=lame))
    assert told.returncode != 0
    assert "apt install python3-venv" in told.stderr


def test_an_environment_from_elsewhere_is_used_as_it_is(tree: Path) -> None:
    """What `uv venv --seed .venv` made, on a machine whose own Python is too old."""
    subprocess.run([str(BASE), "-m", "venv", str(tree / ".venv")], check=True)
    inside = tree / ".venv" / "trace"
    inside.write_text("")
    made = setup(tree, PYTHON="/nowhere/python")
    assert made.returncode == 0, made.stderr
    assert inside.exists()
    assert torch_version(tree).startswith("1.0 ")


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("help", "setup", "run", "test", "lint", "format", "bench", "mini", "lock", "clean"):
        assert f"make {target} " in listed


def test_launching_takes_the_variables_that_its_errors_name() -> None:
    given = [f"{name}=given-{name}" for name in ("CIDR", "IMAGE", "KEY", "NAME", "REGION", "SUBNET", "TYPE")]
    told = subprocess.run(["make", "-n", "launch", *given], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [one for one in given if f"'{one.partition('=')[2]}'" not in told] == []
