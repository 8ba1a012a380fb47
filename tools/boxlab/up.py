"""`make box`: from nothing to a page in the browser, and what it prints."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from . import bake, base, lab, wheels
from .host import ROOT, LabError, why_not
from .lab import KEY_NAME, REGION, Lab

LAUNCH_MINUTES = 6


@dataclass
class Teller:
    """Prints lines with the seconds since it began."""

    began: float

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)


def built_lab(say: Teller, fresh: bool = False) -> Lab:
    """A lab that has the image of this checkout: baked, or with `fresh` unset the last bake's where nothing changed since.

    Raises:
        LabError: no lab can run here, or the bake failed (the lab is gone again then).
    """
    if reason := why_not(install=True):
        raise LabError(reason)
    say("base image: Debian 12")
    root = base.folder()
    say("Python packages")
    wheelhouse = wheels.wheelhouse()
    inputs = bake.inputs()
    found = None if fresh else bake.kept(root, inputs)
    made = lab.create(root, wheelhouse, found)
    say(f"emulated AWS at {made.endpoint}")
    if found:
        say(f"image {found.image} ({found.name}) of the last bake: nothing changed since")
        return made
    try:
        image = bake.bake(made, say)
        bake.keep(made, inputs)
    except BaseException:
        _keep_log(made)
        lab.end(made.folder)
        raise
    say(f"image {image}")
    return made


def _keep_log(made: Lab) -> None:
    log = made.folder / "packer.log"
    if log.exists():
        log.replace(lab.WORK / "packer.log")


def up(port: int, fresh: bool = False) -> None:
    """Build, launch, open the door, print where the page is.

    Raises:
        LabError: see `built_lab`; also when `port` is taken.
    """
    if lab.all_labs():
        raise LabError("a box is there already; `make box-down` removes it")
    _check_free(port)
    say = Teller(time.monotonic())
    made = built_lab(say, fresh)
    try:
        instance, password = launch(made)
        made.ask("door", instance=instance, port=port)
    except BaseException:
        lab.end(made.folder)
        raise
    _tell(made, instance, port, password)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LabError(f"port {port} is taken: make box BOX_PORT=8081 takes another ({error.strerror})") from None


def launch(made: Lab, *more: str, quiet: bool = False) -> tuple[str, str]:
    """`make launch`'s own command against the lab.

    Returns:
        The instance's id, and what the command printed.
    """
    known = set(made.machines())
    command = [sys.executable, "-m", "danqing.cloud", "launch", "--endpoint", made.endpoint, "--region", REGION]
    command += ["--key", KEY_NAME, "--minutes", str(LAUNCH_MINUTES), *more]
    kept = subprocess.PIPE if quiet else None
    done = subprocess.run(
        command,
        env={**made.environment(), "PYTHONPATH": str(ROOT / "app")},
        stdout=kept,
        stderr=kept,
        text=True,
        check=False,
    )
    new = sorted(set(made.machines()) - known)
    if done.returncode or not new:
        raise LabError(f"the launch failed\n{done.stdout or ''}{done.stderr or ''}".rstrip())
    return new[0], done.stdout or ""


def _tell(made: Lab, instance: str, port: int, _printed: str) -> None:
    python = os.path.relpath(sys.executable, ROOT)
    print(f"\nThe box is ready:  http://127.0.0.1:{port}/   (user admin)")
    print("  password:        make box-password")
    print("  a shell on it:   make box-shell")
    print(f"  the AWS API:     make status ENDPOINT={made.endpoint}   (any key id and secret; region {REGION})")
    print(f"  another one:     make launch NAME=second ENDPOINT={made.endpoint}")
    print("  remove it all:   make box-down")
    print(f"  ({instance}, run by {python} -m boxlab)")


def shell(*command: str) -> int:
    """Run a command as root on the box of `make box`, or a login shell.

    Raises:
        LabError: there is no box.
    """
    folders = lab.all_labs()
    if not folders:
        raise LabError("there is no box; `make box` makes one")
    made = Lab.load(folders[-1])
    running = [found for found in made.machines().values() if found["running"]]
    if not running:
        raise LabError("no instance runs")
    ssh = ["ssh", "-q", "-i", str(made.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += [f"admin@{running[0]['public']}", *(["sudo", *command] if command else [])]
    return subprocess.run(ssh, check=False).returncode
