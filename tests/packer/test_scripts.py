"""Every shell script of the repository, as shellcheck sees it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".ci", "ansible", "nginx", "packer", "systemd", "tools")


def scripts() -> list[Path]:
    found = [
        path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".j2"
    ]
    return sorted(
        path for path in found if _first_line(path).startswith("#!") and "sh" in _first_line(path).split("/")[-1]
    )


def _first_line(path: Path) -> str:
    return path.read_bytes().partition(b"\n")[0].decode("utf-8", "replace")


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shell_scripts_are_sound() -> None:
    found = scripts()
    assert len(found) > 4
    done = subprocess.run(["shellcheck", "-S", "style", *map(str, found)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
