"""EBS volumes of a lab: sparse files on loop devices that appear as block devices inside the machines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .host import run
from .machine import Machine

GIB = 1 << 30


@dataclass
class Attachment:
    """Where a volume is."""

    instance: str
    loop: str


class Volumes:
    """Files under `folder`, one a volume; they outlive the instances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.attached: dict[str, Attachment] = {}

    def attach(self, machine: Machine, instance: str, volume: str, device: str, size: int) -> None:
        """Show the volume (`size` GiB, sparse) as `device` in the machine, at once and at its next boots."""
        path = self.folder / f"{volume}.img"
        if not path.exists():
            with path.open("wb") as handle:
                handle.truncate(size * GIB)
        loop = run("losetup", "--find", "--show", path).stdout.strip()
        self.attached[volume] = Attachment(instance, loop)
        machine.devices[loop] = device
        if machine.running:
            number = os.stat(loop).st_rdev
            machine.execute(
                "mknod", "-m", "660", device, "b", str(os.major(number)), str(os.minor(number)), check=False
            )

    def detach(self, volume: str) -> None:
        """Give the loop device back; the file stays."""
        found = self.attached.pop(volume, None)
        if found:
            run("losetup", "--detach", found.loop, check=False)

    def release(self, instance: str) -> None:
        """Detach whatever the instance held."""
        for volume in [name for name, held in self.attached.items() if held.instance == instance]:
            self.detach(volume)

    def delete(self, volume: str) -> None:
        self.detach(volume)
        (self.folder / f"{volume}.img").unlink(missing_ok=True)


def free_loops(folder: Path) -> None:
    """Detach every loop device whose file lies under `folder`."""
    listing = run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").stdout
    for line in listing.splitlines():
        name, _, file = line.strip().partition(" ")
        if file.strip().startswith(f"{folder}/"):
            run("losetup", "--detach", name, check=False)
