"""From boot to page and first picture on a disk as cold as a fresh EBS volume, with and without prefetch.

The image's root lies in an ext4 file system behind nbdkit's delay filter (5 ms a read, many at once), made a file by nbdfuse
and a block device by a loop. Before each boot every page cache is dropped. Needs root, `make box`'s tools, nbdkit and
libnbd-bin; elsewhere it says what is missing and measures nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Cell, show

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from boxlab import bake, base, host, lab, up  # noqa: E402

PACKAGES = {"nbdkit": "nbdkit", "nbdfuse": "libnbd-bin", "fusermount3": "fuse3"}
DELAY_MS = int(os.environ.get("DANQING_BENCH_DELAY_MS", "5"))
CONNECTIONS, THREADS, IN_FLIGHT = 32, 128, 256
ROUNDS = int(os.environ.get("DANQING_BENCH_ROUNDS", "3"))
PATIENCE = 900.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def missing() -> str:
    """Why this cannot be measured here, "" when it can."""
    if reason := host.why_not():
        return reason
    lacking = sorted(package for command, package in PACKAGES.items() if not shutil.which(command))
    return f"missing here (Debian 12: apt-get install {' '.join(lacking)})" if lacking else ""


@dataclass
class Cold:
    """A file system on a slow block device."""

    device: str
    mounted: Path

    def read_bytes(self) -> int:
        """Bytes read from the device since it was made."""
        return int(Path(f"/sys/block/{Path(self.device).name}/stat").read_text().split()[2]) * 512

    def figures(self) -> dict[int, float]:
        """Reads of 4 KiB a second, at 1, 8 and 32 in flight."""
        size = int(Path(f"/sys/block/{Path(self.device).name}/size").read_text()) * 512
        handle = os.open(self.device, os.O_RDONLY)
        found = {}
        for depth in (1, 8, 32):
            drop_caches()
            places = [random.Random(depth + n).randrange(size >> 20) << 20 for n in range(40 * depth)]
            began = time.monotonic()
            with ThreadPoolExecutor(depth) as pool:
                list(pool.map(lambda place: os.pread(handle, 4096, place), places))
            found[depth] = len(places) / (time.monotonic() - began)
        os.close(handle)
        return found


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def make_file_system(layers: tuple[Path, ...], target: Path, scratch: Path) -> None:
    """An ext4 file with what the layers hold together, a quarter of it free."""
    tree = scratch / "tree"
    tree.mkdir()
    host.run("mount", "-t", "overlay", "danqing-bench", "-o", f"ro,lowerdir={':'.join(map(str, layers))}", tree)
    try:
        used = int(host.run("du", "-sxm", tree).stdout.split()[0])
        host.run("truncate", "-s", f"{used * 5 // 4 + 512}M", target)
        host.run("mkfs.ext4", "-q", "-m", "0", "-d", tree, target)
    finally:
        host.run("umount", tree)


@contextlib.contextmanager
def cold_disk(image: Path, scratch: Path) -> Iterator[Cold]:
    """The file system of `image` mounted through the slow device."""
    socket, door, mounted = scratch / "nbd.sock", scratch / "door", scratch / "cold"
    door.mkdir()
    mounted.mkdir()
    serve = ["nbdkit", "--foreground", "-U", str(socket), "-t", str(THREADS), "--filter=delay", "file", str(image)]
    nbdkit = subprocess.Popen([*serve, f"rdelay={DELAY_MS}ms"])
    loop = ""
    fuse = None
    try:
        _wait(socket.exists, "nbdkit")
        fuse = subprocess.Popen(["nbdfuse", "-C", str(CONNECTIONS), str(door / "disk"), "--unix", str(socket)])
        _wait((door / "disk").exists, "nbdfuse")
        _widen()
        loop = host.run("losetup", "--find", "--show", "--direct-io=on", door / "disk").stdout.strip()
        host.run("mount", loop, mounted)
        yield Cold(loop, mounted)
    finally:
        host.run("umount", mounted, check=False)
        if loop:
            host.run("losetup", "--detach", loop, check=False)
        time.sleep(0.5)
        host.run("umount", door, check=False)
        for process in (fuse, nbdkit):
            if process:
                process.terminate()
                process.wait()


def _wait(true: Any, what: str) -> None:
    end = time.monotonic() + 20
    while not true():
        if time.monotonic() > end:
            raise host.LabError(f"{what} did not come up")
        time.sleep(0.05)


def _widen() -> None:
    """FUSE lets 12 background requests in by itself; a volume takes more."""
    control = Path("/sys/fs/fuse/connections")
    if not any(control.iterdir()):
        host.run("mount", "-t", "fusectl", "none", control, check=False)
    newest = max(control.iterdir(), key=lambda path: int(path.name))
    (newest / "max_background").write_text(str(IN_FLIGHT))
    (newest / "congestion_threshold").write_text(str(IN_FLIGHT))


def ask(url: str) -> int:
    """Status of a page, 0 while nothing answers."""
    try:
        with _OPENER.open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def boot(cold: Cold, kept: lab.Kept, prefetch: bool, scratch: Path) -> dict[str, float]:
    """One boot: seconds to page and to the first picture, gigabytes read."""
    over = scratch / f"over-{time.monotonic_ns()}"
    (over / "etc/systemd/system").mkdir(parents=True)
    if not prefetch:
        (over / "etc/systemd/system/danqing-prefetch.service").symlink_to("/dev/null")
    made = lab.create(cold.mounted, scratch, lab.Kept(kept.image, kept.name, over))
    try:
        drop_caches()
        before = cold.read_bytes()
        client = made.client()
        row = client.run_instances(ImageId=kept.image, MinCount=1, MaxCount=1, InstanceType="g5.xlarge")["Instances"][0]
        machine = made.machines()[row["InstanceId"]]
        found = {}
        for name, true in (("page", lambda: ask(f"http://{machine['public']}/")), ("picture", lambda: _drawn(machine))):
            _until(true, name)
            found[name] = time.time() - machine["booted_at"]
        found["gigabytes"] = (cold.read_bytes() - before) / 1e9
        return found
    finally:
        lab.end(made.folder)


def _drawn(machine: dict[str, Any]) -> bool:
    return ask(f"http://{machine['public']}/readyz") == 200


def _until(true: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise host.LabError(f"no {what} after {PATIENCE:.0f} s")
        time.sleep(0.05)


def image() -> tuple[lab.Kept, tuple[Path, ...]]:
    """The image of the last bake, baked first where there is none of this checkout."""
    root = base.folder()
    kept = bake.kept(root, bake.inputs()) or (bake.newest() if os.environ.get("DANQING_BENCH_ANY_IMAGE") else None)
    if kept is None:
        made = up.built_lab(up.Teller(time.monotonic()))
        lab.end(made.folder)
        kept = bake.kept(root, bake.inputs())
        assert kept
    return kept, (kept.layer, kept.base or root)


def main() -> int:
    if reason := missing():
        print(f"coldboot: not measured. {reason}")
        return 0
    kept, layers = image()
    rows: list[dict[str, Cell]] = []
    scratch = Path(tempfile.mkdtemp(prefix="danqing-coldboot-", dir=lab.WORK))
    try:
        make_file_system(layers, scratch / "image.ext4", scratch)
        with cold_disk(scratch / "image.ext4", scratch) as cold:
            figures = cold.figures()
            for prefetch in (True, False):
                rounds = [boot(cold, kept, prefetch, scratch) for _ in range(ROUNDS)]
                best = min(rounds, key=lambda found: found["picture"])
                rows.append({"prefetch": "yes" if prefetch else "no", **{f"{k} (best)": v for k, v in best.items()}})
                rows[-1] |= {"pictures": " ".join(f"{found['picture']:.1f}" for found in rounds)}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    device = ", ".join(f"{count:.0f} at {depth}" for depth, count in figures.items())
    notes = [
        f"Seconds from the start of systemd; device: {DELAY_MS} ms a read, reads of 4 KiB a second by reads in flight: {device}."
    ]
    show(
        "coldboot", "Boot from a cold disk", rows, notes, device={str(k): v for k, v in figures.items()}, rounds=ROUNDS
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
