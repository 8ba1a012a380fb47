"""A disk that remembers every write and every flush, so that the machine can be said to have died at any moment.

An image in a FUSE file system of this program's own, a loop device on it, ext4 on that: what the kernel sends to the disk arrives
here in order, a flush (what fsync ends in) as an entry of its own. A crash at an entry leaves what was flushed before it for
certain, and of what came after any part: a disk writes that in whatever order it likes.
"""

from __future__ import annotations

import bisect
import errno
import os
import random
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "disk.img"
MEGABYTES = 192
PROGRAMS = ("mkfs.ext4", "losetup", "mount", "umount", "fusermount3")


def why_not() -> str:
    """Why there can be no such disk here, "" when there can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [
        name for name in PROGRAMS if not shutil.which(name, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    ]
    if missing:
        return f"{', '.join(missing)} is missing"
    if not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists():
        return "the kernel has no FUSE or no loop devices"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        return str(error)
    return ""


@dataclass
class Log:
    """What the disk was told: (offset, bytes) of writes, None for a flush."""

    path: Path
    entries: list[tuple[int, bytes] | None] = field(default_factory=list)

    def moment(self) -> int:
        """How many entries there are by now."""
        return len(self.entries)

    def flushes(self) -> list[int]:
        return [place for place, entry in enumerate(self.entries) if entry is None]

    def crash(self, start: int, moment: int, base: Path, image: Path, rng: random.Random) -> None:
        """Write into `image` what a crash after `moment` entries may leave, from `base`, the disk after `start` of them."""
        subprocess.run(["cp", "--sparse=always", str(base), str(image)], check=True)
        flushes = [place for place in self.flushes() if place < moment]
        certain = flushes[-1] if flushes else start
        with image.open("r+b") as disk:
            for place, entry in enumerate(self.entries[start:moment], start):
                if entry is not None and (place < certain or rng.random() < 0.5):
                    disk.seek(entry[0])
                    disk.write(entry[1])


def operations(log: Log) -> Any:
    """The file system: one file, its bytes in `log.path`."""
    import mfusepy

    class Recorder(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self.fd = os.open(log.path, os.O_RDWR)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path != f"/{NAME}":
                raise mfusepy.FuseOSError(errno.ENOENT)
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": os.fstat(self.fd).st_size}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", NAME]

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(self.fd, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            log.entries.append((offset, bytes(data)))
            return os.pwrite(self.fd, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            log.entries.append(None)
            return 0

    return Recorder()


@contextmanager
def recorded(folder: Path) -> Iterator[tuple[Path, Log]]:
    """A mounted ext4 and its log. Below `folder`: `disk`, the mount, and files that are this disk's own business."""
    import mfusepy

    plain, where, mounted = folder / "plain.img", folder / "fuse", folder / "disk"
    where.mkdir()
    mounted.mkdir()
    _formatted(plain)
    log = Log(plain)
    fuse = threading.Thread(
        target=mfusepy.FUSE,
        args=(operations(log), str(where)),
        kwargs={"foreground": True, "nothreads": True},
        daemon=True,
    )
    fuse.start()
    _until((where / NAME).exists)
    device = _run("losetup", "--find", "--show", str(where / NAME))
    try:
        _run("mount", "-o", "noatime", device, str(mounted))
        try:
            yield mounted, log
        finally:
            _unmounted(mounted)
    finally:
        _run("losetup", "-d", device)
        _until(lambda: str(where) not in _run("losetup", "-a"))
        _run("fusermount3", "-u", "-z", str(where))
        fuse.join(10)


@contextmanager
def mounted_image(image: Path, where: Path) -> Iterator[Path]:
    """An image as the machine finds it after the crash: ext4 replays its journal."""
    where.mkdir(exist_ok=True)
    _run("mount", "-o", "loop,noatime", str(image), str(where))
    try:
        yield where
    finally:
        _unmounted(where)


def _formatted(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MEGABYTES * 2**20)
    _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(path))


def _unmounted(where: Path) -> None:
    for _ in range(50):
        done = subprocess.run(["umount", str(where)], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    _run("umount", "-l", str(where))


def _until(holds: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("the recording disk did not come up")
        time.sleep(0.02)


def _run(*command: str) -> str:
    path = os.environ.get("PATH", "") + ":/sbin:/usr/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def moments(log: Log, start: int, count: int, rng: random.Random) -> list[int]:
    """Moments to die at: half of them just behind a flush, where what was promised is youngest."""
    last = log.moment()
    flushes = log.flushes()
    behind = [place + 1 for place in flushes[bisect.bisect_left(flushes, start) :]]
    chosen = [rng.choice(behind) for _ in range(count // 2) if behind]
    return chosen + [rng.randint(start, last) for _ in range(count - len(chosen))]
