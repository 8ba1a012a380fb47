"""What an embedding file holds. Formats: AUTOMATIC1111's training (`string_to_param`), diffusers' and others' single tensor,
SDXL's pair `clip_l` and `clip_g`, and pictures that carry one in a text chunk or in their pixels.

Nothing in a file is run, and no more of it is read than an embedding can be.
"""

from __future__ import annotations

import base64
import binascii
import io
import itertools
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from danqing.errors import DanqingError
from danqing.library.header import Entry, read_header
from danqing.library.pickles import Spec, read_pickle, read_pickle_header

Array = np.ndarray[Any, np.dtype[np.float32]]

FILE_LIMIT = 64 * 2**20
"""Bytes of a file; SDXL embeddings of 75 vectors have 0.6 MB."""
TEXT_LIMIT = 64 * 2**20
"""Bytes of JSON in a picture."""
PIXEL_LIMIT = 16 * 2**20

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
BUNDLED = "bundle_emb."
PICTURES = (".png", ".webp")
CHUNK = "sd-ti-embedding"
PAIR = {"clip_l": "clip_l", "clip_g": "open_clip_g"}
"""SDXL's names of the two encoders, and ours."""


@dataclass(frozen=True, slots=True)
class Contents:
    """vectors: (n, width) float32 for each encoder, under "" where the file does not say which. name: what a picture says."""

    vectors: dict[str, Array]
    name: str = ""
    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None


@dataclass(slots=True)
class _Found:
    """Tensors by name, and what else the file says."""

    tensors: dict[str, Array]
    facts: dict[str, Any] = field(default_factory=dict)


def read_embedding(path: Path) -> Contents | None:
    """The embedding in a file; None for a picture that carries none.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise ValueError(f"an embedding of more than {FILE_LIMIT} bytes")
        suffix = path.suffix.lower()
        if suffix in PICTURES:
            found = _from_picture(path)
        else:
            found = _from_header(path) if suffix == ".safetensors" else _from_pickle(path)
        return None if found is None else _contents(found)
    except OSError as error:
        raise DanqingError("model_broken", name=path.name, reason=error.strerror or str(error)) from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, MemoryError) as error:
        raise DanqingError("model_broken", name=path.name, reason=str(error)[:200] or type(error).__name__) from None


def read_bundle(path: Path) -> dict[str, Contents]:
    """The embeddings inside a LoRA's file, by name: tensors called `bundle_emb.NAME.…`.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    groups: dict[str, dict[str, Entry]] = {}
    try:
        entries, start = _entries(path)
        for key, entry in entries.items():
            if key.startswith(BUNDLED):
                name, _, rest = key.removeprefix(BUNDLED).partition(".")
                groups.setdefault(name, {})[rest] = entry
        if sum(entry.end - entry.start for rows in groups.values() for entry in rows.values()) > FILE_LIMIT:
            raise ValueError(f"embeddings of more than {FILE_LIMIT} bytes")
        return {
            name: _contents(_Found({rest: _array(path, entry, start) for rest, entry in rows.items()}))
            for name, rows in groups.items()
        }
    except OSError as error:
        raise DanqingError("model_broken", name=path.name, reason=error.strerror or str(error)) from None
    except (ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        raise DanqingError("model_broken", name=path.name, reason=str(error)[:200] or type(error).__name__) from None


def _entries(path: Path) -> tuple[dict[str, Entry], int]:
    """The tensors of a LoRA's file, and where their bytes are counted from."""
    if path.suffix.lower() == ".safetensors":
        header = read_header(path)
        return header.tensors, header.data_start
    return read_pickle_header(path).tensors, 0


def _contents(found: _Found) -> Contents:
    tensors = found.tensors
    if set(PAIR) <= set(tensors):
        vectors = {ours: _matrix(tensors[theirs]) for theirs, ours in PAIR.items()}
    elif len(tensors) == 1:
        vectors = {"": _matrix(next(iter(tensors.values())))}
    else:
        raise ValueError(f"{len(tensors)} tensors where one was expected")
    if len({len(matrix) for matrix in vectors.values()}) != 1:
        raise ValueError("its encoders have different numbers of vectors")
    facts = found.facts
    step = facts.get("step")
    return Contents(
        vectors,
        name=_text(facts.get("name")) or "",
        step=step if isinstance(step, int) else None,
        sd_checkpoint=_text(facts.get("sd_checkpoint")),
        sd_checkpoint_name=_text(facts.get("sd_checkpoint_name")),
    )


def _text(value: object) -> str | None:
    return value[:1000] if isinstance(value, str) else None


def _matrix(array: Array) -> Array:
    matrix = np.ascontiguousarray(array[None] if array.ndim == 1 else array, dtype=np.float32)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"a tensor of shape {array.shape} is no list of vectors")
    if not np.isfinite(matrix).all():
        raise ValueError("it holds numbers that are not finite")
    return matrix


def _from_header(path: Path) -> _Found:
    header = read_header(path)
    return _Found({name: _array(path, entry, header.data_start) for name, entry in header.tensors.items()})


def _from_pickle(path: Path) -> _Found:
    tree, locate = read_pickle(path)
    if not isinstance(tree, dict):
        raise ValueError("it holds no table")
    param = tree.get("string_to_param")
    table = param if isinstance(param, dict) else tree
    tensors = {str(key): _array(path, locate(value), 0) for key, value in table.items() if isinstance(value, Spec)}
    return _Found(tensors, {key: tree.get(key) for key in ("step", "sd_checkpoint", "sd_checkpoint_name")})


def _array(path: Path, entry: Entry, data_start: int) -> Array:
    if entry.dtype not in DTYPES:
        raise ValueError(f"numbers of the type {entry.dtype}")
    with path.open("rb") as file:
        file.seek(data_start + entry.start)
        raw = file.read(entry.end - entry.start)
    flat = np.frombuffer(raw, DTYPES[entry.dtype])
    if entry.dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    if entry.stride is not None:
        steps = [step * flat.itemsize for step in entry.stride]
        return np.lib.stride_tricks.as_strided(flat, entry.shape, steps, writeable=False).astype(np.float32)
    return flat.reshape(entry.shape).astype(np.float32)


def _from_picture(path: Path) -> _Found | None:
    from PIL import Image

    with Image.open(path) as image:
        if image.width * image.height > PIXEL_LIMIT:
            return None
        text = getattr(image, "text", {}).get(CHUNK)
        if text is not None:
            return _from_json(_unpacked(text))
        data = _hidden(np.asarray(image.convert("RGB")))
    return None if data is None else _from_json(data)


def _unpacked(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        raise ValueError("its text chunk is damaged") from None


def _from_json(data: bytes) -> _Found:
    table = json.loads(data)
    param = table["string_to_param"]
    tensors = {name: np.asarray(value["TORCHTENSOR"], dtype=np.float32) for name, value in param.items()}
    return _Found(tensors, table)


def _hidden(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes | None:
    """The JSON in a picture's pixels, None where there is none.

    Two blocks at the sides, each parted from the picture by a black column, hold the low four bits of each byte (left) and the
    high four (right) of a zlib stream, in the low four bits of red, green and blue, row by row, masked with a fixed series.
    """
    low = _trimmed(pixels) & 0x0F
    black = np.flatnonzero(low.sum(axis=(0, 2), dtype=np.int64) == 0)
    if len(black) < 2:
        return None
    left, right = low[:, : black[0]], low[:, black[-1] + 1 :]
    if left.shape != right.shape or not left.size:
        return None
    mask = _series(left.size).reshape(left.shape)
    packed = ((right ^ mask) << 4) | (left ^ mask)
    try:
        return _inflated(packed.tobytes())
    except zlib.error:
        return None


def _trimmed(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Without the black frame around."""
    lit = pixels.min(axis=2)
    rows, columns = np.flatnonzero(lit.max(axis=1)), np.flatnonzero(lit.max(axis=0))
    if not len(rows):
        return pixels[:0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _series(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The mask: the linear congruential generator of Numerical Recipes from 0, each number modulo 255, its low four bits."""
    numbers = itertools.accumulate(range(count), lambda seed, _: (1664525 * seed + 1013904223) % 2**32, initial=0)
    next(numbers)
    return np.fromiter((number % 255 & 0x0F for number in numbers), dtype=np.uint8, count=count)


def _inflated(packed: bytes) -> bytes:
    unpack = zlib.decompressobj()
    found = io.BytesIO()
    found.write(unpack.decompress(packed, TEXT_LIMIT))
    if unpack.unconsumed_tail or not unpack.eof:
        raise zlib.error("too long or cut short")
    return found.getvalue()
