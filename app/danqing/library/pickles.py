"""Reading what a `.ckpt`, `.pt`, `.pth` or `.bin` file holds without running any of it, and without torch.

Such a file is a pickle, and a pickle is a program. Here every global that it names must stand in `ALLOWED`, and stands for a
harmless object of this module: no function of torch, numpy or Python that the file names is ever called. What comes out is
plain data with a `Spec` in each tensor's place, which says where its numbers lie in the file.

Formats: torch.save's zip archive (torch 1.6 and later) and the older stream of pickles.
https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from danqing.errors import DanqingError
from danqing.library.header import ITEM_BYTES, Entry, Header

PICKLE_LIMIT = 64 * 1024 * 1024
"""Bytes of pickle in a file; real checkpoints stay below 2 MB, those with an optimizer's state below 20."""

REPEATED_LIMIT = 64 * 1024
"""Bytes of a tensor that repeats its storage's numbers; without a limit a few bytes could claim any size."""

NO_PICKLE = (
    *(pickle.UnpicklingError, struct.error, EOFError, AssertionError),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError),
)
"""What Python's unpickler raises for what is no pickle or ends too soon."""

MAGIC = 0x1950A86A20F9469CFC6C
"""The first number in the stream of pickles that torch wrote before 1.6."""

STORAGES = {
    **{"Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16"},
    **{"Char": "I8", "Byte": "U8", "Bool": "BOOL", "Untyped": "U8"},
}
DTYPE_NAMES = {
    **{"float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16"},
    **{"bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers: dtype word, the name that the file gives it, how many numbers."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor: where in its storage it begins, its shape and stride in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Inert:
    """Stands for an object that no weights are read from."""

    def __init__(self, *_args: object, **_more: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass

    def __setitem__(self, _key: object, _value: object) -> None:
        pass

    def append(self, _value: object) -> None:
        """A list's items are left out."""


class Table(dict[Any, Any]):
    """Stands for dict's kin; of what a pickle sets on it beside its items only a `ParameterDict`'s parameters are kept."""

    def __setstate__(self, state: object) -> None:
        parameters = state.get("_parameters") if isinstance(state, dict) else None
        if isinstance(parameters, dict):
            self.update(parameters)


def _rebuild(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: object) -> Spec:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    return Spec(storage, int(offset), tuple(int(n) for n in shape), tuple(int(n) for n in stride))


def _rebuild_bytes(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: object, _hooks: object, dtype: Any, *_rest: object
) -> Spec:
    """A tensor of a kind of numbers that no storage is named after, such as float8: its storage is bytes."""
    if not isinstance(storage, Storage) or ITEM_BYTES.get(dtype) is None:
        raise TypeError("a tensor without a storage")
    count = storage.count * ITEM_BYTES[storage.dtype] // ITEM_BYTES[dtype]
    return _rebuild(Storage(dtype, storage.key, count), offset, shape, stride)


def _parameter(data: object, *_rest: object) -> object:
    return data


def _encode(text: object, encoding: object = "utf-8", *_rest: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise TypeError("an unknown encoding")
    return text.encode(str(encoding))


def _members(values: object = ()) -> list[object]:
    """A set's members; as a list, for they may be tables here."""
    return list(values) if isinstance(values, list | tuple) else []


def _storages() -> Iterator[tuple[tuple[str, str], Any]]:
    for word, dtype in STORAGES.items():
        for module in ("torch", "torch.cuda", "torch.storage"):
            yield (module, f"{word}Storage"), dtype
    for name, dtype in DTYPE_NAMES.items():
        yield ("torch", name), dtype


_CALLBACKS = ("pytorch_lightning.callbacks", "lightning.pytorch.callbacks", "lightning_fabric.callbacks")

ALLOWED: Mapping[tuple[str, str], Any] = {
    **dict(_storages()),
    **{("torch._utils", f"_rebuild_{name}"): _rebuild for name in ("tensor", "tensor_v2")},
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_bytes,
    **{("torch._utils", f"_rebuild_parameter{name}"): _parameter for name in ("", "_with_state")},
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): Inert,
    ("torch.serialization", "_get_layout"): Inert,
    ("torch.nn.modules.container", "ParameterDict"): Table,
    ("collections", "OrderedDict"): Table,
    ("collections", "defaultdict"): Inert,
    ("collections", "Counter"): Table,
    ("_codecs", "encode"): _encode,
    **{(module, "set"): _members for module in ("builtins", "__builtin__")},
    **{(module, name): Inert for module in ("builtins", "__builtin__") for name in ("dict", "int", "float", "list")},
    **{(f"numpy.{core}.multiarray", name): Inert for core in ("core", "_core") for name in ("scalar", "_reconstruct")},
    **{("numpy", name): Inert for name in ("dtype", "ndarray")},
    **{(module, "ModelCheckpoint"): Inert for module in _CALLBACKS},
    **{(f"{module}.model_checkpoint", "ModelCheckpoint"): Inert for module in _CALLBACKS},
}
"""Globals that weights have a reason to name, and what stands for each here."""


class _Reader(pickle._Unpickler):
    """Sees only what is allowed.

    Python's own reader: what the one in C keeps for later is a list as long as the largest number that the file gives a place,
    so that ten bytes make it take all memory. Here it is a table.
    """

    def __init__(self, file: IO[bytes], name: str, older: bool = False) -> None:
        super().__init__(file, encoding="latin1")
        self._name, self._older = name, older

    def find_class(self, module: str, name: str, /) -> Any:
        found = ALLOWED.get((module, name))
        if found is None:
            raise unsafe(self._name, f"{module}.{name}"[:120])
        return found

    def persistent_load(self, pid: Any, /) -> Any:
        if pid[0] == "module" and pid[1] is Table:
            # The older stream names a module's class in this way, with its source; here it stands for a table.
            return Table
        kind, dtype, key, _where, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, str) or dtype not in ITEM_BYTES:
            raise ValueError("a reference to something that is no storage")
        if self._older and len(pid) > 5 and pid[5] is not None:
            raise ValueError("a view of a storage")
        return Storage(dtype, str(key), int(count))


def unsafe(name: str, reason: str) -> DanqingError:
    """The refusal of a file that could run code."""
    return DanqingError("model_unsafe", name=name, reason=reason)


def broken(name: str, reason: str) -> DanqingError:
    """The refusal of a file that cannot be read."""
    return DanqingError("model_broken", name=name, reason=reason)


def read_pickle(path: Path) -> tuple[Any, Callable[[Spec], Entry]]:
    """What the file holds, and a function that says where a tensor's numbers lie, counted from the file's first byte.

    Raises:
        DanqingError: `model_unsafe`, naming what the file would have called; `model_broken` for what is no such file.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                return _read_zip(path, file)
            file.seek(0)
            return _read_stream(path, file)
    except OSError as error:
        raise broken(path.name, error.strerror or str(error)) from None
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise broken(path.name, f"the archive is damaged or cut short ({error})") from None
    except NO_PICKLE as error:
        raise broken(path.name, f"it is not a file of weights ({type(error).__name__})") from None
    except (RecursionError, MemoryError, OverflowError, ImportError):
        raise broken(path.name, "its pickle is not that of weights") from None


def _read_zip(path: Path, file: IO[bytes]) -> tuple[Any, Callable[[Spec], Entry]]:
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise unsafe(path.name, "two members of one name")
    roots = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(roots) != 1 or roots[0].count("/") > 1:
        raise (
            unsafe(path.name, "several pickles") if len(roots) > 1 else broken(path.name, "no data.pkl in the archive")
        )
    root = roots[0].removesuffix("data.pkl")
    for info in members.values():
        _check_member(path.name, info, root)
    if members[roots[0]].file_size > PICKLE_LIMIT:
        raise broken(path.name, f"a pickle of {members[roots[0]].file_size} bytes")
    if (order := members.get(root + "byteorder")) is not None and archive.read(order)[:3] == b"big":
        raise broken(path.name, "its numbers are big-endian")
    tree = _Reader(io.BytesIO(archive.read(members[roots[0]])), path.name).load()
    return tree, lambda spec: _entry(spec, *_place(file_of(path), members[f"{root}data/{spec.storage.key}"]))


def file_of(path: Path) -> Callable[[int, int], bytes]:
    """A reader of few bytes at an offset."""

    def read(offset: int, count: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(count)

    return read


def _check_member(name: str, info: zipfile.ZipInfo, root: str) -> None:
    inside = info.filename.removeprefix(root)
    if not info.filename.startswith(root) or inside.startswith("/") or ".." in inside.split("/"):
        raise unsafe(name, f"the archive holds {info.filename[:80]!r}")
    if inside.startswith("code/") or inside == "constants.pkl":
        raise unsafe(name, "a TorchScript program")
    if inside.endswith((".pkl", ".py", ".pyc", ".so")) and inside != "data.pkl":
        raise unsafe(name, f"the archive holds {info.filename[:80]!r}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise unsafe(name, "the archive is packed; torch never packs")


def _place(read: Callable[[int, int], bytes], info: zipfile.ZipInfo) -> tuple[int, int]:
    """First byte and bytes of a member. The local header is read, for its extra field has a length of its own."""
    local = read(info.header_offset, 30)
    if local[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no member where one should be")
    extra = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    return info.header_offset + 30 + extra, info.file_size


def _read_stream(path: Path, file: IO[bytes]) -> tuple[Any, Callable[[Spec], Entry]]:
    size = path.stat().st_size

    def read_one(older: bool = False) -> Any:
        return _Reader(file, path.name, older).load()

    try:
        magic = read_one()
    except NO_PICKLE:
        raise broken(path.name, "it is neither an archive nor a pickle of weights") from None
    if magic != MAGIC:
        # Not torch's at all; reading it once to the end has named what it would have called.
        raise broken(path.name, "it is a pickle, but not one that torch wrote")
    if read_one() != 1001:
        raise broken(path.name, "an unknown version of the format")
    read_one()
    start = file.tell()
    tree = read_one(older=True)
    if file.tell() - start > PICKLE_LIMIT:
        raise broken(path.name, f"a pickle of {file.tell() - start} bytes")
    keys = [str(key) for key in read_one()]
    items = {spec.storage.key: ITEM_BYTES[spec.storage.dtype] for _, spec in specs(tree)}
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        length = count * items.get(key, 0)
        if key not in items or count < 0 or file.tell() + length > size:
            raise broken(path.name, "the file is cut short")
        places[key] = (file.tell(), length)
        file.seek(length, io.SEEK_CUR)
    return tree, lambda spec: _entry(spec, *places[spec.storage.key])


def _entry(spec: Spec, start: int, length: int) -> Entry:
    item = ITEM_BYTES[spec.storage.dtype]
    if min((*spec.shape, *spec.stride, spec.offset), default=0) < 0 or len(spec.shape) != len(spec.stride):
        raise ValueError("a tensor of negative size")
    count = math.prod(spec.shape)
    if count * item > max(length, REPEATED_LIMIT):
        raise ValueError("a tensor larger than its storage")
    reach = sum((n - 1) * step for n, step in zip(spec.shape, spec.stride, strict=True)) + 1 if count else 0
    first = start + spec.offset * item
    if first + reach * item > start + length:
        raise ValueError("a tensor beyond its storage")
    plain = _is_plain(spec.shape, spec.stride)
    return Entry(spec.storage.dtype, spec.shape, first, first + reach * item, None if plain else spec.stride)


def _is_plain(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether the numbers lie row after row, without gaps."""
    expected = 1
    for n, step in zip(reversed(shape), reversed(stride), strict=True):
        if n != 1 and step != expected:
            return False
        expected *= max(n, 1)
    return True


def specs(tree: Any) -> Iterator[tuple[str, Spec]]:
    """Every tensor below `tree` with the last name on the way to it; what refers to itself is walked once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Spec):
            yield name, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            rows = value.items() if isinstance(value, dict) else enumerate(value)
            waiting.extend((str(key), row) for key, row in rows)


def _flat(table: dict[Any, Any]) -> dict[str, Any]:
    """The topmost table, or where it holds tables only, theirs: `outer.inner`, as IP-Adapters have it."""
    if any(isinstance(value, Spec) for value in table.values()):
        return {key: value for key, value in table.items() if isinstance(key, str)}
    return {
        f"{outer}.{inner}": value
        for outer, rows in table.items()
        if isinstance(rows, dict)
        for inner, value in rows.items()
    }


def read_pickle_header(path: Path) -> Header:
    """The tensors of a checkpoint: of its `state_dict` where it has one, else of its topmost table.

    Raises:
        DanqingError: as `read_pickle`.
    """
    tree, locate = read_pickle(path)
    table = tree
    for wrapper in ("state_dict", "model", "module"):
        inner = table.get(wrapper) if isinstance(table, dict) else None
        if isinstance(inner, dict) and any(isinstance(value, Spec) for value in inner.values()):
            table = inner
            break
    if not isinstance(table, dict):
        raise broken(path.name, "it holds no table of weights")
    size = path.stat().st_size
    try:
        found = {key: locate(value) for key, value in _flat(table).items() if isinstance(value, Spec)}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise broken(path.name, f"the archive is damaged or cut short ({error})") from None
    if any(entry.end > size for entry in found.values()):
        raise broken(path.name, "the file is cut short")
    return Header(found, {}, 0)
