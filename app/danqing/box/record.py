"""Makes the prefetch list: forgets what the page cache holds, starts Danqing, draws a picture, and looks what came back.

The kernel is asked (mincore) which pages of which files are in memory afterwards, so nothing has to be traced. The ranges are
put in the order of the disk (FIEMAP), code before models, because an engine waits for its imports first.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from danqing.box.errors import BoxError
from danqing.box.local import Client
from danqing.box.places import Places
from danqing.box.prefetch import Range, write_list
from danqing.box.warmup import draw

PAGE = mmap.PAGESIZE
GAP = 32
"""Pages; the kernel reads ahead so far anyway."""
READY_SECONDS = 600.0
SYSTEM = ("usr/lib/x86_64-linux-gnu", "usr/sbin/nginx", "usr/share/nginx")
FIEMAP = 0xC020660B
EXTENTS = 64

Line = tuple[str, str]


def roots(places: Places) -> list[Path]:
    """Where the files lie that a first picture may touch: Python and its packages, models, the system's libraries."""
    python = [Path(sys.prefix), Path(sysconfig.get_paths()["stdlib"])]
    models = [places.data / "models", places.image_models]
    return [path for path in (*python, *(places.root / name for name in SYSTEM), *models) if path.exists()]


def run(places: Places, path: Path) -> Line:
    """Write the list; says how large it is.

    Raises:
        BoxError: `not_answering`, `picture_failed`: a list of a start that failed would be worth nothing.
    """
    folders = roots(places)
    os.sync()
    for file in files(folders):
        forget(file)
    first_picture(places)
    models = (places.data / "models", places.image_models)
    keyed: list[tuple[bool, int, Range]] = []
    for file in files(folders):
        for row in resident(file):
            keyed.append((any(file.is_relative_to(folder) for folder in models), physical(file, row.offset), row))
    ranges = [row for _, _, row in sorted(keyed, key=lambda key: (key[0], key[1], key[2].path, key[2].offset))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_list(path, ranges)
    size, count = sum(row.length for row in ranges) / 2**20, len({row.path for row in ranges})
    return (
        f"{path}: {size:.0f} MiB in {len(ranges)} ranges of {count} files",
        f"{path}：{count} 个文件的 {len(ranges)} 段，共 {size:.0f} MiB",
    )


def files(folders: list[Path]) -> Iterator[Path]:
    """Plain files below the folders, once each, links not followed."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        below = (
            [folder] if folder.is_file() else (Path(top, name) for top, _, names in os.walk(folder) for name in names)
        )
        for file in below:
            with contextlib.suppress(OSError):
                known = file.lstat()
                key = (known.st_dev, known.st_ino)
                if file.is_file() and not file.is_symlink() and known.st_size and key not in seen:
                    seen.add(key)
                    yield file


def forget(file: Path) -> None:
    """Let the page cache drop the file; pages that a running program has mapped stay."""
    with contextlib.suppress(OSError):
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


# -- what is in memory --


def resident(file: Path) -> list[Range]:
    """The ranges of the file that are in the page cache, small gaps closed."""
    try:
        size = file.stat().st_size
        present = _mincore(file, size)
    except OSError:
        return []
    found: list[Range] = []
    begin = last = -1
    for page, flag in enumerate(present):
        if not flag & 1:
            continue
        if begin >= 0 and page - last > GAP:
            found.append(_range(file, begin, last, size))
            begin = -1
        begin, last = (page if begin < 0 else begin), page
    if begin >= 0:
        found.append(_range(file, begin, last, size))
    return found


def _range(file: Path, first: int, last: int, size: int) -> Range:
    return Range(str(file), first * PAGE, min(size, (last + 1) * PAGE) - first * PAGE)


def _mincore(file: Path, size: int) -> bytes:
    """One byte a page, its lowest bit set when the page is in memory. The kernel tells owners of the file only."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap", str(file))
        try:
            present = ctypes.create_string_buffer((size + PAGE - 1) // PAGE)
            if libc.mincore(address, size, present) != 0:
                raise OSError(ctypes.get_errno(), "mincore", str(file))
            return present.raw
        finally:
            libc.munmap(address, size)
    finally:
        os.close(handle)


def physical(file: Path, offset: int) -> int:
    """Where on the disk the byte lies; the file's number where the file system does not say (overlay, tmpfs)."""
    request = array.array("B", struct.pack("=QQLLLL", offset, PAGE, 0, 0, EXTENTS, 0) + bytes(56 * EXTENTS))
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, FIEMAP, request)
        finally:
            os.close(handle)
        if struct.unpack_from("=L", request, 20)[0]:
            logical, start = struct.unpack_from("=QQ", request, 32)
            return int(start + max(0, offset - logical))
    except OSError:
        pass
    return file.stat().st_ino


# -- the picture --


def first_picture(places: Places) -> None:
    """Start Danqing on a data folder of its own with the image's models, read the page, draw one picture, stop it."""
    with tempfile.TemporaryDirectory(prefix="danqing-record-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        if (places.data / "models").is_dir():
            (data / "models").symlink_to(places.data / "models")
        port = _free_port()
        command = [
            sys.executable,
            "-m",
            "danqing.cli",
            "serve",
            "--port",
            str(port),
            "--data",
            str(data),
            "--users",
            "open",
        ]
        # The units tell the web process to leave the engine to them; here it starts its own.
        environment = {**os.environ, "DANQING_ENGINE_EXTERNAL": "false", "DANQING_ENGINE_SOCKET": ""}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                _draw(places, Client(places, f"http://127.0.0.1:{port}"))
            finally:
                process.send_signal(signal.SIGTERM)


def _draw(places: Places, client: Client) -> None:
    end = time.monotonic() + READY_SECONDS
    while client.get("/readyz").status != 200:
        if time.monotonic() > end:
            raise BoxError("not_answering", seconds=int(READY_SECONDS), state="record")
        time.sleep(0.5)
    client.get("/", seconds=60)
    draw(client, "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
