"""Pickled weights are read as data; nothing that a file asks for is ever run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.errors import DanqingError
from danqing.library.pickles import read_pickle_header
from danqing.library.tensors import TensorReader
from danqing.library.weights import open_weights


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def archive(path: Path, members: dict[str, bytes], **packing: Any) -> Path:
    with zipfile.ZipFile(path, "w", packing.get("compression", zipfile.ZIP_STORED)) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def evil(mark: Path) -> bytes:
    return pickle.dumps(Calls(os.system, f"touch {mark}"))


def with_member(path: Path, name: str, content: bytes) -> Path:
    saved(path, {"a": torch.ones(3)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, content)
    return path


def two_pickles(path: Path, mark: Path) -> Path:
    """The member's name stands twice: programs that read front to back and back to front see different pickles."""
    saved(path, {"a": torch.ones(3)})
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(next(n for n in file.namelist() if n.endswith("data.pkl")), evil(mark))
    return path


HOSTILE: dict[str, Callable[[Path, Path], Any]] = {
    "a call in the archive's pickle": lambda p, m: saved(
        p, {"state_dict": {"a": torch.ones(3), "b": Calls(os.system, f"touch {m}")}}
    ),
    "a bare pickle": lambda p, m: p.write_bytes(evil(m)),
    "an old stream": lambda p, m: torch.save(
        {"a": torch.ones(2), "b": Calls(os.system, f"touch {m}")}, p, _use_new_zipfile_serialization=False
    ),
    "a pickle that loads a pickle": lambda p, m: saved(p, {"a": Calls(pickle.loads, evil(m))}),
    "torch's own loader in a pickle": lambda p, m: saved(p, {"a": Calls(torch.load, io.BytesIO(b""))}),
    "eval": lambda p, m: saved(p, {"a": Calls(eval, f"open({str(m)!r}, 'w')")}),
    "getattr": lambda p, m: saved(p, {"a": Calls(getattr, "text", "upper")}),
    "a dotted name": lambda p, m: p.write_bytes(
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93."
    ),
    "a second pickle": lambda p, m: with_member(p, "m/other.pkl", evil(m)),
    "a program": lambda p, m: with_member(p, "m/code/__torch__.py", b"import os"),
    "two members of one name": two_pickles,
    "a packed bomb": lambda p, m: archive(
        p, {"m/data.pkl": b"\x80\x02" + b"0" * 10**8}, compression=zipfile.ZIP_DEFLATED
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_do_nothing(tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / "bad.ckpt"
    HOSTILE[name](path, mark)
    with pytest.raises(DanqingError) as caught:
        open_weights(path)
    assert caught.value.code == "model_unsafe"
    assert "bad.ckpt" in caught.value.text("en")
    assert not mark.exists()


def test_the_refusal_names_what_would_have_been_called(tmp_path: Path) -> None:
    saved(tmp_path / "bad.ckpt", {"a": Calls(os.system, "true")})
    with pytest.raises(DanqingError, match=r"posix\.system"):
        open_weights(tmp_path / "bad.ckpt")


BROKEN: dict[str, Callable[[Path], Any]] = {
    "empty": lambda p: p.write_bytes(b""),
    "noise": lambda p: p.write_bytes(os.urandom(1000)),
    "text": lambda p: p.write_text("<html>404</html>"),
    "an archive without a pickle": lambda p: archive(p, {"m/version": b"3"}),
    "half a pickle": lambda p: archive(p, {"m/data.pkl": b"\x80\x02}q\x00("}),
    "a number": lambda p: saved(p, 7),
    "a list": lambda p: saved(p, [torch.ones(2)]),
    "a storage that is not there": lambda p: archive(p, {"m/data.pkl": pickle_of(saved(p, {"a": torch.ones(2)}))}),
    "a tensor beyond its storage": lambda p: beyond(p),
    "deep nesting": lambda p: p.write_bytes(b"\x80\x02" + b"]" * 10**6 + b"."),
    "a long number": lambda p: p.write_bytes(b"\x80\x02\x8b\xff\xff\xff\x7f" + b"1" * 100 + b"."),
    "a tensor that repeats one number a trillion times": lambda p: repeated(p),
    "a memo index of 4 billion": lambda p: p.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f."),
}


def pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as file:
        return file.read(next(n for n in file.namelist() if n.endswith("data.pkl")))


def beyond(path: Path) -> None:
    """A view that claims more numbers than there are."""
    content = pickle_of(saved(path, {"a": torch.ones(5, 7)}))
    archive(path, {"m/data.pkl": content.replace(b"K\x05K\x07", b"K\x50K\x07"), "m/data/0": b"\0" * 140})


def repeated(path: Path) -> None:
    content = pickle_of(saved(path, {"a": torch.ones(1).expand(5, 7)}))
    many = b"J\x00\x00\x10\x00"  # 2 ** 20, for each of the two sides
    archive(path, {"m/data.pkl": content.replace(b"K\x05K\x07", many + many), "m/data/0": b"\0" * 4})


def test_ten_bytes_do_not_take_all_memory(tmp_path: Path) -> None:
    """A place for later with the number 100 million: a list that long has 1.6 GB."""
    import subprocess
    import sys

    archive(tmp_path / "m.ckpt", {"m/data.pkl": b"\x80\x02}r\x00\xe1\xf5\x05."})
    code = f"""import pathlib, resource
from danqing.library.pickles import read_pickle_header
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
print(read_pickle_header(pathlib.Path({str(tmp_path / "m.ckpt")!r})).tensors)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "broken.ckpt"
    BROKEN[name](path)
    with pytest.raises(DanqingError) as caught:
        open_weights(path)
    assert caught.value.code == "model_broken", caught.value
    assert "broken.ckpt" in caught.value.text("zh")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_files_cut_short_are_named(tmp_path: Path, old: bool, share: float) -> None:
    path = tmp_path / "short.ckpt"
    torch.save({"a": torch.ones(1000), "b": torch.ones(1000)}, path, _use_new_zipfile_serialization=not old)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DanqingError) as caught:
        open_weights(path)
    assert caught.value.code == "model_broken"


@pytest.mark.parametrize("old", [False, True])
def test_tensors_are_those_that_torch_reads(tmp_path: Path, old: bool) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    content: dict[str, Any] = {
        "state_dict": OrderedDict(
            whole=base,
            turned=base.T,
            part=base[1:3, 2:5],
            half=torch.randn(3, 3).half(),
            brain=torch.randn(5).bfloat16(),
            ids=torch.arange(7),
            scalar=torch.tensor(2.5),
            empty=torch.zeros(0, 4),
            repeated=torch.ones(1).expand(4),
            weight=torch.nn.Parameter(torch.randn(2, 2)),
        ),
        "epoch": 3,
        "callbacks": {"loss": 0.5, "best": None},
        "optimizer_states": [{"state": {0: {"step": 1, "exp": torch.zeros(3)}}}],
    }
    if not old:  # torch itself does not read these from a stream
        content["state_dict"]["eighth"] = torch.randn(4, 6).to(torch.float8_e4m3fn)[1:, 2:]
        content["state_dict"]["fifth"] = torch.randn(3).to(torch.float8_e5m2)
    path = tmp_path / "m.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    theirs = torch.load(path, weights_only=True)["state_dict"]
    with TensorReader(open_weights(path)) as reader:
        assert set(reader.entries) == set(theirs)
        for name, value in theirs.items():
            found = reader.get(name)
            assert found.dtype == value.dtype
            assert torch.equal(found.double(), value.double()), name


@pytest.mark.parametrize("old", [False, True])
def test_files_with_any_byte_changed_are_named_or_read(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2), "n": 2**40}}, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    changes = random.Random(1)
    for place in range(0, len(whole), 1 if old else 3):
        path.write_bytes(whole[:place] + changes.randbytes(1) + whole[place + 1 :])
        with contextlib.suppress(DanqingError):
            read_pickle_header(path)


def test_a_pickle_under_another_name_is_found_out(tmp_path: Path) -> None:
    """What a file is goes by its content: a pickle called .safetensors, safetensors called .ckpt."""
    from safetensors.torch import save_file

    saved(tmp_path / "a.safetensors", {"a": torch.ones(3)})
    save_file({"a": torch.ones(3)}, tmp_path / "b.ckpt")
    for name in ("a.safetensors", "b.ckpt"):
        assert open_weights(tmp_path / name).shapes == {"a": (3,)}


def test_nothing_of_torch_is_needed(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = saved(tmp_path / "m.ckpt", {"a": torch.ones(3)})
    code = f"""import sys, pathlib
from danqing.library.pickles import read_pickle_header
print(read_pickle_header(pathlib.Path({str(path)!r})).shapes, 'torch' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'a': (3,)} False"
    assert read_pickle_header(path).shapes == {"a": (3,)}
