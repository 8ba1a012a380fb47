"""What is on disk, and what a checkpoint is."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from danqing.engine.models import state_of
from danqing.errors import DanqingError
from danqing.library.architecture import recognise
from danqing.library.embeddings import Embeddings
from danqing.library.header import read_header
from danqing.library.index import Library
from danqing.library.networks import Networks
from danqing.library.previews import Previews

from ..engine import tiny


def put(data: Path, name: str, metadata: dict[str, str] | None = None) -> Path:
    path = data / "models" / "Stable-diffusion" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(3)}, path, metadata=metadata)
    return path


def names(library: Library) -> list[str]:
    return [c.name for c in library.checkpoints() if c.name != "danqing-mini.safetensors"]


def test_files_are_found_in_natural_order_without_a_restart(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert names(library) == []
    for name in ("b10.safetensors", "b9.safetensors", "sub/a.safetensors", "x.vae.safetensors", "notes.txt"):
        if name.endswith(".txt"):
            (tmp_path / "models/Stable-diffusion" / name).write_text("no model")
        else:
            put(tmp_path, name)
    assert names(library) == ["b9.safetensors", "b10.safetensors", "sub/a.safetensors"]
    (tmp_path / "models/Stable-diffusion/b9.safetensors").unlink()
    assert names(library) == ["b10.safetensors", "sub/a.safetensors"]


def test_a_link_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "a.safetensors")
    (tmp_path / "models/Stable-diffusion/b.safetensors").symlink_to("a.safetensors")
    library = Library(tmp_path)
    for _ in range(2):
        assert names(library) == ["a.safetensors", "b.safetensors"]
        assert library.resolve("b").filename.name == "b.safetensors"
        library.hashed(library.resolve("a"))
    assert library.resolve("b").sha256 == library.resolve("a").sha256 is not None


def test_a_yaml_may_come_and_go(tmp_path: Path) -> None:
    path = put(tmp_path, "a.safetensors")
    library = Library(tmp_path)
    library.hashed(library.resolve("a"))
    bare = state_of(library.resolve("a"))
    assert library.resolve("a").config is None
    path.with_suffix(".yaml").write_text("model: {}")
    assert library.resolve("a").config == path.with_suffix(".yaml")
    described = state_of(library.resolve("a"))
    os.utime(path.with_suffix(".yaml"), ns=(1, 1))
    assert len({bare, described, state_of(library.resolve("a"))}) == 3  # each is read anew where it is drawn with
    path.with_suffix(".yaml").unlink()
    assert library.resolve("a").config is None


def test_links_in_a_circle_and_pipes_hold_nothing_up(tmp_path: Path) -> None:
    """Two links to their own folder are 2 ** 40 ways to walk; a pipe that nobody writes to is never read to its end."""
    for folder, name in (
        ("models/Lora", "x.safetensors"),
        ("embeddings", "x.pt"),
        ("models/Stable-diffusion", "x.ckpt"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        os.mkfifo(tmp_path / folder / name)
        for link in ("one", "two"):
            (tmp_path / folder / link).symlink_to(".")
    assert names(Library(tmp_path)) == []
    assert Networks(tmp_path).loras() == []
    assert Embeddings(tmp_path).all() == []
    assert Previews(lambda: [tmp_path / "models"], lambda: []).find("x") is None


def test_a_checkpoint_answers_to_all_its_names(tmp_path: Path) -> None:
    path = put(tmp_path, "sub/My Model v1.safetensors")
    library = Library(tmp_path)
    assert library.checkpoints()[0].title == "sub/My Model v1.safetensors"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    hashed = library.hashed(library.checkpoints()[0])
    assert hashed.sha256 == sha256
    for name in (
        "sub_My Model v1",
        f"sub/My Model v1.safetensors [{sha256[:10]}]",
        "sub/My Model v1.safetensors",
        "My Model v1",
        "My Model v1.safetensors",
        sha256[:10],
        sha256,
        f"My Model v1 [{sha256[:10]}]",
        "",
    ):
        assert library.resolve(name).filename == path


def test_a_hash_is_kept_and_forgotten_with_the_file(tmp_path: Path) -> None:
    path = put(tmp_path, "m.safetensors")
    Library(tmp_path).hashed(Library(tmp_path).checkpoints()[0])
    again = Library(tmp_path)
    assert again.checkpoints()[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    save_file({"x": torch.ones(3)}, path)
    os.utime(path, ns=(1, 1))
    assert again.checkpoints()[0].sha256 is None


def test_unknown_names_say_what_is_known(tmp_path: Path) -> None:
    put(tmp_path, "m.safetensors")
    with pytest.raises(DanqingError, match=r"m\.safetensors") as caught:
        Library(tmp_path).resolve("no-such-model")
    assert caught.value.code == "unknown_model"


def test_the_native_size_is_in_the_file(tmp_path: Path) -> None:
    put(tmp_path, "a.safetensors", {"modelspec.resolution": "768x768"})
    put(tmp_path, "b.safetensors", {"modelspec.resolution": "evil"})
    sizes = {c.name: c.native_size for c in Library(tmp_path).checkpoints()}
    assert (sizes["a.safetensors"], sizes["b.safetensors"]) == (768, 512)


def claims(length: int, header: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + header


HOSTILE = {
    "claims 100 GB": claims(100 * 2**30),
    "claims more than there is": claims(4096),
    "empty": b"",
    "short": b"\x01",
    "no JSON": claims(4, b"\xff\xfe{}"),
    "no table": claims(2, b"[]"),
    "deep JSON": claims(200_000, b"[" * 200_000),
    "data beyond the end": claims(
        *(lambda h: (len(h), h))(json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode())
    ),
    "an offset without end": claims(
        *(lambda h: (len(h), h))(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,Infinity]}}')
    ),
    "offsets that run back": claims(
        *(lambda h: (len(h), h))(json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}).encode())
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_named_and_do_no_harm(tmp_path: Path, name: str) -> None:
    path = tmp_path / "models" / "Stable-diffusion" / "bad.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DanqingError) as caught:
        read_header(path)
    assert caught.value.code == "model_broken"
    assert names(Library(tmp_path)) == ["bad.safetensors"]


def test_the_architecture_is_read_from_shapes(tmp_path: Path) -> None:
    header = read_header(tiny.write(tmp_path))
    found = recognise("tiny", header.shapes, tiny.REFERENCE / "tiny-sd15.yaml")
    assert found.unet.widths == (32, 64, 128, 128)
    assert found.unet.attends == (True, True, True, False)
    assert (found.unet.layers, found.unet.heads, found.unet.context) == (2, 4, 64)
    assert (found.vae.widths, found.vae.layers) == ((32, 64, 128, 128), 2)
    assert (found.text.width, found.text.layers, found.text.heads) == (64, 6, 4)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("conditioner.embedders.0.x", "SDXL"),
        ("cond_stage_model.model.x", "SD 2"),
        ("lora_unet_x.lora_up.weight", "LoRA"),
        ("decoder.conv_in.weight", "VAE"),
        ("something", "UNet"),
    ],
)
def test_other_kinds_are_named(key: str, says: str) -> None:
    with pytest.raises(DanqingError, match=says):
        recognise("other", {key: (1,)}, None)


def test_a_checkpoint_cut_short_is_refused_before_its_data_is_read(tmp_path: Path) -> None:
    path = tiny.write(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)
    with pytest.raises(DanqingError, match="cut short"):
        read_header(path)
