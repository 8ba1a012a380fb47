"""The data volume: found, formatted when it is empty, mounted over the data folder; and the instance store as a cache."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from danqing.box import tools
from danqing.box.errors import BoxError
from danqing.box.places import USER, Places

LABEL = "danqing-data"
WAIT_SECONDS = 90.0
"""An attachment that was asked for with the launch comes some seconds after the boot."""
ANY = "any"
NONE = ("", "none")
PASSWORD_COPY = "secrets/password"
"""Below the data folder, for root only: the next machine that the volume moves to can show it."""
ATTACHED = ("/dev/sdf", "/dev/xvdf")
"""The name that a data volume is attached under."""
EBS = re.compile(r"^/dev/(nvme\d+n\d+|xvd[a-z]+|sd[a-z]+)$")
ZERO_BYTES = 1 << 20
STORE = "Amazon EC2 NVMe Instance Storage"
STORE_FOLDERS = ("opt/dlami/nvme", "mnt/danqing-store")
"""The Deep Learning AMIs mount the instance store by themselves, at the first."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A block device. `kind` is its file system, "" when there is none; `parts`: whether it has partitions."""

    path: str
    serial: str = ""
    model: str = ""
    label: str = ""
    kind: str = ""
    mounted: bool = False
    parts: bool = False
    zero: bool = False
    """Whether it begins with nothing but zeros, as a new volume does."""

    @property
    def blank(self) -> bool:
        return self.zero and not (self.kind or self.parts or self.mounted)

    @property
    def store(self) -> bool:
        return self.model.strip() == STORE


def disks() -> list[Disk]:
    """All whole disks, and what their first bytes say."""
    told = tools.quiet("lsblk", "--json", "--output", "PATH,SERIAL,MODEL,MOUNTPOINT,TYPE")
    rows = json.loads(told)["blockdevices"] if told else []
    found = [_disk(row) for row in rows if EBS.match(str(row.get("path")))]
    known = {os.path.realpath(disk.path) for disk in found}
    # Where device nodes do not have the kernel's names, an attachment is known by the name that was asked for.
    named = [probe(name) for name in ATTACHED if os.path.realpath(name) not in known and Path(name).is_block_device()]
    return [disk for disk in (*found, *named) if Path(disk.path).is_block_device()]


def _disk(row: dict[str, Any]) -> Disk:
    probed = probe(str(row["path"]))
    serial, model = str(row.get("serial") or ""), str(row.get("model") or "")
    parts = probed.parts or bool(row.get("children"))
    return replace(probed, serial=serial, model=model, parts=parts, mounted=bool(row.get("mountpoint")))


def probe(path: str) -> Disk:
    """A device as its own bytes tell; nothing is believed that was noted elsewhere."""
    lines = tools.quiet("blkid", "-p", "-o", "export", path).splitlines()
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    label = told.get("LABEL", "").replace("\\", "")
    return Disk(path, label=label, kind=told.get("TYPE", ""), parts="PTTYPE" in told, zero=_zero(path))


def _zero(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return not any(file.read(ZERO_BYTES))
    except OSError:
        return False


def choose(found: list[Disk], wanted: str) -> Disk | None:
    """The disk that is meant: `auto` the labelled one; `any` that, else the one blank disk; `vol-…` by serial; or a device."""
    attached = next((disk for disk in found if disk.path in ATTACHED), None)
    if wanted.startswith("vol-"):
        return next((disk for disk in found if disk.serial.replace("-", "") == wanted.replace("-", "")), attached)
    if wanted.startswith("/dev/"):
        return next((disk for disk in found if os.path.realpath(disk.path) == os.path.realpath(wanted)), None)
    labelled = next((disk for disk in found if disk.label == LABEL), None)
    if labelled or wanted != ANY:
        return labelled
    blank = [disk for disk in found if disk.blank and not disk.store]
    return attached or (blank[0] if len(blank) == 1 else None)


def wait_for(wanted: str, seconds: float = WAIT_SECONDS) -> Disk | None:
    """`choose`, again until it is there; `auto` does not wait.

    Raises:
        BoxError: `no_volume`.
    """
    end = time.monotonic() + seconds
    while True:
        disk = choose(disks(), wanted)
        if disk or wanted == "auto":
            return disk
        if time.monotonic() >= end:
            raise BoxError("no_volume", volume=wanted, seconds=int(seconds))
        time.sleep(1)


def prepare(disk: Disk) -> None:
    """Make a file system on a blank disk; leave one of ours alone.

    Raises:
        BoxError: `volume_foreign` for anything else: somebody's data is never overwritten.
    """
    if disk.blank:
        make = ("mkfs.ext4", "-q", "-L", LABEL, "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1")
        tools.run(*make, disk.path, seconds=600)
    elif disk.label != LABEL:
        raise BoxError("volume_foreign", device=disk.path, found=disk.kind or "partitions")


def mount(places: Places, disk: Disk) -> None:
    """Mount over the data folder; the image's own models show through as links."""
    if os.path.ismount(places.data):
        return
    tools.quiet("e2fsck", "-p", disk.path, seconds=1800)
    places.data.mkdir(parents=True, exist_ok=True)
    places.image_models.mkdir(parents=True, exist_ok=True)
    models = places.data / "models"
    models.mkdir(exist_ok=True)
    tools.run("mount", "--bind", str(models), str(places.image_models))
    tools.run("mount", "-o", "noatime", disk.path, str(places.data))
    # The volume may have been enlarged since it was last seen.
    tools.quiet("resize2fs", disk.path, seconds=600)
    own(places.data)
    link_models(places.image_models, places.data / "models")


def own(data: Path) -> None:
    """The data folder is the service's, whatever number its user has on this image."""
    user, group = tools.owner_of(USER)
    if os.geteuid() != 0 or data.stat().st_uid == user:
        return
    for folder, _, files in os.walk(data):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            if name != str(data / PASSWORD_COPY):
                os.chown(name, user, group, follow_symlinks=False)
    data.chmod(0o750)


def link_models(image: Path, models: Path) -> None:
    """A link in `models` for each of the image's files; links of an older image that lead nowhere go."""
    for folder, _, files in os.walk(models):
        for name in files:
            link = Path(folder, name)
            if link.is_symlink() and not link.exists() and os.readlink(link).startswith(f"{image}/"):
                link.unlink()
    for source in sorted(path for path in image.rglob("*") if path.is_file()):
        target = models / source.relative_to(image)
        _folder(target.parent, models)
        if not target.exists() and not target.is_symlink():
            target.symlink_to(source)


def _folder(folder: Path, top: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if path.is_relative_to(top) and not path.exists()]
    for path in reversed(missing):
        path.mkdir()
        tools.give(path, USER)


def instance_store(places: Places) -> Path | None:
    """A cache folder on the instance store, empty after every stop; None where the machine has none."""
    store = next((places.root / name for name in STORE_FOLDERS if os.path.ismount(places.root / name)), None)
    if store is None:
        disk = next((disk for disk in disks() if disk.store and not disk.mounted), None)
        if disk is None:
            return None
        store = places.root / STORE_FOLDERS[1]
        store.mkdir(parents=True, exist_ok=True)
        if disk.blank:
            tools.run("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1", disk.path, seconds=600)
        tools.run("mount", "-o", "noatime", disk.path, str(store))
    cache = store / "danqing-cache"
    cache.mkdir(exist_ok=True)
    tools.give(cache, USER)
    return cache
