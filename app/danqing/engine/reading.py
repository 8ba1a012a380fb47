"""Reads weights from files straight into the tensors that they fill.

A few threads read pieces of the file one behind the other and turn each into the networks' number format: there are never two
whole copies, and a slow disk sees long reads in order, several at once. What costs most on a fast one is memory that is touched
for the first time, which threads do side by side.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch

from danqing.library.header import Entry, Header
from danqing.library.tensors import DTYPES, FLOATS

PIECE = 16 * 1024 * 1024
"""Bytes a read: on a fresh cloud disk large reads are many times as fast as page faults."""

SLICE = 32_704
"""Numbers; torch copies fewer than 32768 in one thread."""

AHEAD = 256 * 1024 * 1024
"""Bytes that the kernel is asked for before they are read: a disk is never idle while numbers are copied."""

WISH = 128 * 1024
"""Bytes of one such request: Linux cuts longer ones down to the device's own read-ahead, which is seldom less."""

WORKERS = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor to fill. `third`: the tensor takes one of three equal parts of the file's, from row 0 on."""

    tensor: torch.Tensor
    third: int | None = None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class _Move:
    """Bytes of the file that are turned into numbers in one go: `count` numbers, from number `first` of the tensor on."""

    start: int
    end: int
    dtype: torch.dtype
    first: int
    entry: Entry
    targets: Sequence[Target]
    whole: bool


def read_ahead(paths: Iterable[Path]) -> None:
    """Have the kernel fetch the beginning of each file while its networks are still being made. Errors are left to `fill`."""
    with contextlib.suppress(OSError):
        for path in paths:
            with path.open("rb", buffering=0) as file:
                _ahead(file.fileno(), 0, AHEAD)


def _ahead(descriptor: int, start: int, count: int) -> None:
    if hasattr(os, "posix_fadvise"):
        for place in range(start, start + count, WISH):
            os.posix_fadvise(descriptor, place, min(WISH, start + count - place), os.POSIX_FADV_WILLNEED)


def fill(path: Path, header: Header, targets: Mapping[str, Sequence[Target]]) -> None:
    """Fill every target from the tensor of its name; tensors without a target are not read.

    Raises:
        ValueError: naming a tensor whose shape is not the target's, or whose numbers are no weights.
        OSError: the file grew shorter while it was read.
    """
    groups = list(_groups(sorted(_moves(header, targets), key=lambda move: move.start)))
    workers = min(WORKERS, os.cpu_count() or 1, max(len(groups), 1))
    spare: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(workers):
        spare.put(bytearray(max(map(_span, groups), default=0)))

    def work(group: Sequence[_Move]) -> None:
        buffer = spare.get()
        try:
            _ahead(file.fileno(), group[0].start + AHEAD, _span(group))
            _read(file.fileno(), group[0].start, _span(group), buffer)
            for move in group:
                _convert(move, buffer, group[0].start)
        finally:
            spare.put(buffer)

    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(workers, thread_name_prefix="read-weights") as pool:
        for done in [pool.submit(work, group) for group in groups]:
            done.result()


def _read(descriptor: int, start: int, count: int, buffer: bytearray) -> None:
    view = memoryview(buffer)[:count]
    done = 0
    while done < count:
        got = os.preadv(descriptor, [view[done:]], start + done)
        if not got:
            raise OSError("the file grew shorter while it was read")
        done += got


def _moves(header: Header, targets: Mapping[str, Sequence[Target]]) -> Iterator[_Move]:
    for name, rows in targets.items():
        entry = header.tensors[name]
        check_shape(name, entry, rows)
        dtype = DTYPES[entry.dtype]
        start, end = header.data_start + entry.start, header.data_start + entry.end
        # What is not copied number by number is copied whole.
        whole = entry.stride is not None or any(row.transposed for row in rows)
        step = (end - start) if whole else PIECE // dtype.itemsize * dtype.itemsize
        for first in range(start, end, max(step, 1)):
            last = min(first + step, end)
            yield _Move(first, last, dtype, (first - start) // dtype.itemsize, entry, rows, whole)


def check_shape(name: str, entry: Entry, rows: Sequence[Target]) -> None:
    """
    Raises:
        ValueError: the tensor does not fit its targets.
    """
    if entry.dtype not in FLOATS:
        raise ValueError(f"{name} holds {entry.dtype}, not weights")
    for row in rows:
        shape = list(row.tensor.shape)
        if row.third is not None:
            shape[0] *= 3
        if row.transposed:
            shape.reverse()
        found = list(entry.shape)
        while len(found) > len(shape) and found[-1] == 1:
            found.pop()
        if found != shape:
            raise ValueError(f"{name} has the shape {list(entry.shape)}, {shape} is wanted")


def _groups(moves: Sequence[_Move]) -> Iterator[list[_Move]]:
    """Moves that one read serves: neighbours in the file, at most a piece in all unless a single one is larger."""
    group: list[_Move] = []
    for move in moves:
        if group and (move.end - group[0].start > PIECE or move.start > group[-1].end + PIECE // 16):
            yield group
            group = []
        group.append(move)
    if group:
        yield group


def _span(group: Sequence[_Move]) -> int:
    return max(move.end for move in group) - group[0].start


def _convert(move: _Move, buffer: bytearray, base: int) -> None:
    count = (move.end - move.start) // move.dtype.itemsize
    raw = torch.frombuffer(buffer, dtype=torch.uint8, count=move.end - move.start, offset=move.start - base)
    # Numbers that start at an odd address cannot be viewed as wider ones without a copy.
    numbers = (raw if raw.data_ptr() % move.dtype.itemsize == 0 else raw.clone()).view(move.dtype)
    for target in move.targets:
        if move.whole:
            _convert_whole(move.entry, numbers, target)
            continue
        flat = target.tensor.view(-1)
        offset = 0 if target.third is None else target.third * flat.numel()
        low, high = max(move.first, offset), min(move.first + count, offset + flat.numel())
        if low < high:
            _copy(flat[low - offset : high - offset], numbers[low - move.first : high - move.first])


def _copy(target: torch.Tensor, numbers: torch.Tensor) -> None:
    """On a CPU in slices too small for torch to wake its workers for: two threads that wait for each other on a busy machine
    take several times as long as one, and one keeps up with a disk."""
    if target.device.type != "cpu":
        target.copy_(numbers)
        return
    for one, other in zip(torch.split(target, SLICE), torch.split(numbers, SLICE), strict=True):
        one.copy_(other)


def _convert_whole(entry: Entry, numbers: torch.Tensor, target: Target) -> None:
    value = numbers.reshape(entry.shape) if entry.stride is None else numbers.as_strided(entry.shape, entry.stride)
    if target.third is not None:
        value = value.chunk(3)[target.third]
    target.tensor.copy_((value.T if target.transposed else value).reshape(target.tensor.shape))
