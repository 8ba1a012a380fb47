"""Reads ahead what the first picture touches, in disk order, with many reads in flight: a fresh EBS volume fetches every
block from S3 at its first touch, slowly one by one and fast many at a time.

`python -m danqing.box.prefetch` is the quickest way in: standard library only, few modules, so that it starts before a cold disk
has given up anything more. The list has one line a range: `path TAB offset TAB length`, in the order to read.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from danqing.box.phases import Phase, phase
from danqing.box.places import Places

DEPTH = 64
"""Reads in flight. EBS answers each in 5 to 30 ms whatever the others do."""
CHUNK = 1 << 20
"""Bytes of one read; a large file is shared among the readers."""
MEMORY_SHARE = 0.7
"""Of the free memory; more would push out what was read first."""
TELL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file."""

    path: str
    offset: int
    length: int


@dataclass
class Tally:
    """What the readers have done so far."""

    total: int
    bytes: int = 0
    ranges: int = 0
    missing: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        with self.lock:
            self.bytes += count
            self.ranges += 1

    def lost(self) -> None:
        with self.lock:
            self.missing += 1

    @property
    def share(self) -> float:
        return min(1.0, self.bytes / self.total) if self.total else 1.0


def read_list(path: Path) -> list[Range]:
    """The ranges of a list file; lines that are none are passed over."""
    found = []
    for line in path.read_text("utf-8", "surrogateescape").splitlines():
        name, _, rest = line.partition("\t")
        offset, _, length = rest.partition("\t")
        if name.startswith("/") and offset.isdigit() and length.isdigit():
            found.append(Range(name, int(offset), int(length)))
    return found


def write_list(path: Path, ranges: Iterable[Range]) -> None:
    """Replace the list whole."""
    half = path.with_name(path.name + ".part")
    text = "".join(f"{row.path}\t{row.offset}\t{row.length}\n" for row in ranges)
    half.write_text(text, "utf-8", "surrogateescape")
    half.chmod(0o644)
    half.replace(path)


def pieces(ranges: Iterable[Range], most: int) -> Iterator[Range]:
    """The ranges in reads of at most CHUNK bytes, until `most` bytes."""
    left = most
    for row in ranges:
        for offset in range(row.offset, row.offset + row.length, CHUNK):
            length = min(CHUNK, row.offset + row.length - offset)
            if length > left:
                return
            left -= length
            yield Range(row.path, offset, length)


def read_all(ranges: list[Range], depth: int, most: int, tally: Tally) -> None:
    """Read every range into the page cache with `depth` readers; returns when all are done."""
    work, turn = pieces(ranges, most), threading.Lock()

    def reader() -> None:
        handles: dict[str, int] = {}
        try:
            while True:
                with turn:
                    piece = next(work, None)
                if piece is None:
                    return
                _read(piece, handles, tally)
        finally:
            for handle in handles.values():
                os.close(handle)

    readers = [threading.Thread(target=reader, name=f"prefetch-{number}", daemon=True) for number in range(depth)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join()


def _read(piece: Range, handles: dict[str, int], tally: Tally) -> None:
    try:
        handle = handles.get(piece.path)
        if handle is None:
            while len(handles) >= 4:
                os.close(handles.pop(next(iter(handles))))
            handle = handles[piece.path] = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
        tally.add(len(os.pread(handle, piece.length, piece.offset)))
    except OSError:
        # A file that an update removed: the list is advice.
        tally.lost()


def free_memory() -> int:
    """Bytes that may be used without pushing anything out."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 40


def run(places: Places, path: Path | None = None, depth: int = DEPTH) -> Tally:
    """Read the list; the phase `prefetch` tells how far it is.

    Raises:
        OSError: when there is no list.
    """
    with phase(places, "prefetch") as running:
        ranges = read_list(path or places.prefetch_list)
        most = int(free_memory() * MEMORY_SHARE)
        tally = Tally(min(most, sum(row.length for row in ranges)))
        over = threading.Event()
        teller = threading.Thread(target=_tell, args=(running, tally, over), daemon=True)
        teller.start()
        began = time.monotonic()
        read_all(ranges, depth, most, tally)
        over.set()
        teller.join()
        running.row["note"] = summary(tally, time.monotonic() - began, depth)
    return tally


def _tell(running: Phase, tally: Tally, over: threading.Event) -> None:
    while not over.wait(TELL_SECONDS):
        running.tell(progress=tally.share)


def summary(tally: Tally, seconds: float, depth: int) -> str:
    """`1234 MiB in 12.3 s (100 MiB/s), 5000 reads, 64 at once`."""
    size = tally.bytes / 2**20
    text = f"{size:.0f} MiB in {seconds:.1f} s ({size / max(seconds, 0.001):.0f} MiB/s), {tally.ranges} reads, {depth} at once"
    return text + (f", {tally.missing} missing" if tally.missing else "")


def main() -> int:
    """The way in without the command line's imports."""
    places = Places.here()
    if not places.prefetch_list.is_file():
        return 0
    print(summary(run(places), 0.0, DEPTH).split(" in ")[0], file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
