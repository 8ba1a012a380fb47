"""Running the system's own programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from danqing.box.errors import BoxError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def have(name: str) -> bool:
    """Whether the program is installed."""
    return shutil.which(name, path=PATH) is not None


def run(*command: str, seconds: float = 120) -> str:
    """Standard output of a program.

    Raises:
        BoxError: `tool_failed`, with the last line of what it said.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "PATH": PATH, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BoxError("tool_failed", tool=command[0], reason=str(error)) from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BoxError("tool_failed", tool=command[0], reason=lines[-1] if lines else f"exit code {done.returncode}")
    return done.stdout


def quiet(*command: str, seconds: float = 30) -> str:
    """Like `run`, "" when it fails or is not there."""
    try:
        return run(*command, seconds=seconds)
    except BoxError:
        return ""


def need_root(command: str) -> None:
    """
    Raises:
        BoxError: `not_root`.
    """
    if os.geteuid() != 0:
        raise BoxError("not_root", command=command)


def owner_of(user: str) -> tuple[int, int]:
    """Numbers of a user and its group; ours where there is no such user (a machine that is no box)."""
    import pwd

    try:
        row = pwd.getpwnam(user)
    except KeyError:
        return os.geteuid(), os.getegid()
    return row.pw_uid, row.pw_gid


def give(path: Path, user: str) -> None:
    """Make a file or folder that user's, where we may."""
    if os.geteuid() == 0:
        os.chown(path, *owner_of(user), follow_symlinks=False)
