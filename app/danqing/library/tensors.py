"""Single tensors of a model on disk, read when they are asked for, and models written whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import torch

from danqing.errors import DanqingError
from danqing.library.header import ITEM_BYTES, Entry, Header
from danqing.library.weights import Weights
from danqing.library.whole import replacing

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "BOOL": torch.bool},
}
WORDS = {dtype: word for word, dtype in DTYPES.items()}
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")

SLACK = 64 * 1024 * 1024
"""Bytes that must stay free on the disk."""


class TensorReader:
    """The tensors of a model by name. Files are read, not mapped: a page fault on a slow disk costs more than a read."""

    def __init__(self, weights: Weights) -> None:
        self._places: dict[str, tuple[Path, Header, Entry]] = {
            piece.prefix + name: (piece.path, piece.header, entry)
            for piece in weights.pieces
            for name, entry in piece.header.tensors.items()
        }
        rows = sorted(self._places.items(), key=lambda row: (str(row[1][0]), row[1][2].start))
        self.entries: dict[str, Entry] = {name: entry for name, (_, _, entry) in rows}
        """Every tensor's entry, in the order in which they lie in the files."""
        self._files: dict[Path, IO[bytes]] = {}

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str) -> torch.Tensor:
        """One tensor, as it is in the file.

        Raises:
            OSError: the file grew shorter.
        """
        path, header, entry = self._places[name]
        if path not in self._files:
            self._files[path] = path.open("rb")
        file = self._files[path]
        file.seek(header.data_start + entry.start)
        content = bytearray(entry.end - entry.start)
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise OSError("the file grew shorter while it was read")
        dtype = DTYPES[entry.dtype]
        if not content:
            return torch.empty(entry.shape, dtype=dtype)
        numbers = torch.frombuffer(content, dtype=torch.uint8).view(dtype)
        return numbers.view(entry.shape) if entry.stride is None else numbers.as_strided(entry.shape, entry.stride)


@dataclass(frozen=True, slots=True)
class Row:
    """A tensor to write: dtype word, shape, and how to make it when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def write_safetensors(path: Path, rows: Iterable[Row], metadata: Mapping[str, str], overwrite: bool = False) -> None:
    """Write a `.safetensors` file tensor by tensor, into a file beside `path` that takes its name when all is on disk.

    Raises:
        DanqingError: `file_exists`, `disk_full`, `cannot_write`.
    """
    table = list(rows)
    head = _head(table, metadata)
    size = len(head) + sum(row.bytes for row in table)
    try:
        if path.exists() and not overwrite:
            raise DanqingError("file_exists", path=str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < size + SLACK:
            raise DanqingError("disk_full", free_mb=free // 2**20)
        _write(path, head, table)
    except OSError as error:
        if error.errno in (28, 122):  # no space, no quota
            raise DanqingError("disk_full", free_mb=0) from None
        raise DanqingError("cannot_write", path=str(path), reason=error.strerror or str(error)) from None


def _write(path: Path, head: bytes, table: list[Row]) -> None:
    with replacing(path) as file:
        file.write(head)
        for row in table:
            value = row.make().to(DTYPES[row.dtype]).contiguous()
            if tuple(value.shape) != row.shape:
                raise ValueError(f"{row.name} came out as {list(value.shape)}")
            file.write(value.reshape(-1).view(torch.uint8).numpy().data)


def _head(table: list[Row], metadata: Mapping[str, str]) -> bytes:
    found: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for row in table:
        found[row.name] = {"dtype": row.dtype, "shape": list(row.shape), "data_offsets": [start, start + row.bytes]}
        start += row.bytes
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
