"""Reads an adapter's file into tensors, in one large sequential piece and without running anything in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from danqing.errors import DanqingError
from danqing.library.header import Entry, read_header
from danqing.library.pickles import Spec, read_pickle

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}

SIZE_LIMIT = 4 * 1024**3
"""Bytes of a file that is read whole; adapters are a hundredth of it, rarely a fourth."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds. tree: name → tensor, and for pickles whatever else stands there. size: bytes of the file."""

    tree: dict[Any, Any]
    metadata: dict[str, str]
    size: int

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the topmost table, or of its `state_dict`."""
        inner = self.tree.get("state_dict")
        table = inner if isinstance(inner, dict) else self.tree
        return {key: value for key, value in table.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}


def read(path: Path) -> Contents:
    """The contents of a `.safetensors`, `.pt` or `.ckpt` file. The tensors share one buffer.

    Raises:
        DanqingError: `model_broken` or `model_unsafe`, with the reason.
    """
    if path.suffix.lower() == ".safetensors":
        header = read_header(path)
        buffer = _bytes_of(path)
        try:
            tree: Any = {
                name: _tensor(buffer, entry, header.data_start)
                for name, entry in header.tensors.items()
                if entry.dtype in DTYPES
            }
        except RuntimeError:
            raise DanqingError("model_broken", name=path.name, reason="the file changed while it was read") from None
        return Contents(tree, header.metadata, buffer.numel())
    tree, locate = read_pickle(path)
    buffer = _bytes_of(path)
    try:
        tree = _filled(tree, lambda spec: _tensor(buffer, locate(spec), 0), {})
    except (KeyError, ValueError, RuntimeError, RecursionError) as error:
        raise DanqingError(
            "model_broken", name=path.name, reason=f"a damaged tensor ({type(error).__name__})"
        ) from None
    if not isinstance(tree, dict):
        raise DanqingError("model_broken", name=path.name, reason="it holds no table of tensors")
    return Contents(tree, {}, buffer.numel())


def _bytes_of(path: Path) -> torch.Tensor:
    """The whole file, uint8."""
    try:
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise DanqingError("model_broken", name=path.name, reason=f"{size} bytes are too many for an adapter")
        buffer = torch.empty(size, dtype=torch.uint8)
        view, position = buffer.numpy().data, 0
        with path.open("rb", buffering=0) as file:
            while position < size and (count := file.readinto(view[position:])):
                position += count
    except OSError as error:
        raise DanqingError("model_broken", name=path.name, reason=error.strerror or str(error)) from None
    if position < size:
        raise DanqingError("model_broken", name=path.name, reason="the file grew shorter while it was read")
    return buffer


def _tensor(buffer: torch.Tensor, entry: Entry, base: int) -> torch.Tensor:
    dtype = DTYPES[entry.dtype]
    raw = buffer[base + entry.start : base + entry.end]
    # A tensor that starts at an odd address cannot be viewed as wider numbers without a copy.
    numbers = (raw if raw.data_ptr() % dtype.itemsize == 0 else raw.clone()).view(dtype)
    return numbers.reshape(entry.shape) if entry.stride is None else numbers.as_strided(entry.shape, entry.stride)


def _filled(tree: Any, tensor: Callable[[Spec], torch.Tensor], done: dict[int, Any]) -> Any:
    """The same tree with a tensor in each `Spec`'s place.

    `done`: by id what was filled already. A few bytes can make a list of lists of one list, twice each, 100 deep.
    """
    if id(tree) in done:
        return done[id(tree)]
    found: Any = tree
    if isinstance(tree, Spec):
        found = tensor(tree)
    elif isinstance(tree, dict):
        found = {key: _filled(value, tensor, done) for key, value in tree.items()}
    elif isinstance(tree, list | tuple):
        found = [_filled(value, tensor, done) for value in tree]
    done[id(tree)] = found
    return found
