"""Reading the header of a `.safetensors` file without believing it.

Format: https://github.com/huggingface/safetensors#format - 8 bytes little-endian length, JSON, then the data.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from danqing.errors import DanqingError

ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2},
    **{"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1},
}
"""Bytes of one number, by the format's dtype word."""

HEADER_LIMIT = 32 * 1024 * 1024
"""Bytes. Real checkpoints stay below 1 MB; a header that claims more than this is not read."""


class Entry(NamedTuple):
    """One tensor: dtype word, shape, and where its bytes lie, counted from the first data byte.

    `stride`: in elements, of a tensor whose numbers do not lie row after row; None for all others.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    stride: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """`metadata`: the free strings. `data_start`: offset of the first data byte in the file."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]
    data_start: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape."""
        return {name: entry.shape for name, entry in self.tensors.items()}


def read_header(path: Path) -> Header:
    """The header of `path`, bounds checked against the file's size.

    Raises:
        DanqingError: `model_broken`, when the file is truncated, claims too long a header or is not safetensors at all.
    """

    def broken(reason: str) -> DanqingError:
        return DanqingError("model_broken", name=path.name, reason=reason)

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 10 or not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise broken(f"the header claims {length} bytes in a file of {size}")
            table = json.loads(file.read(length))
    except OSError as error:
        raise broken(error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        raise broken("the header is not JSON") from None
    if not isinstance(table, dict):
        raise broken("the header is not a table")
    meta = table.pop("__metadata__", {}) or {}
    metadata = {str(k): str(v) for k, v in meta.items()} if isinstance(meta, dict) else {}
    try:
        tensors = {name: _entry(entry, size - 8 - length) for name, entry in table.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise broken(f"the header is damaged or the file is cut short ({error})") from None
    return Header(tensors, metadata, 8 + length)


def _entry(entry: Any, data_bytes: int) -> Entry:
    start, end = (int(n) for n in entry["data_offsets"])
    if not 0 <= start <= end <= data_bytes:
        raise ValueError("data outside the file")
    found = Entry(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), start, end)
    item = ITEM_BYTES.get(found.dtype)
    if min(found.shape, default=0) < 0 or (item and math.prod(found.shape) * item != end - start):
        raise ValueError(f"a shape of {list(found.shape)[:8]} in {end - start} bytes")
    return found
