"""Which VAE a checkpoint is drawn with, and how checkpoints are named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from danqing.errors import DanqingError
from danqing.library.index import Library
from danqing.library.vaes import choose, user_metadata, vae_files

SD = "models/Stable-diffusion"


def put(data: Path, name: str, size: int = 3) -> Path:
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.full((size,), float(len(name)))}, path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    put(tmp_path, f"{SD}/anime.safetensors")
    put(tmp_path, f"{SD}/plain.safetensors")
    put(tmp_path, f"{SD}/sub/deep.safetensors")
    put(tmp_path, f"{SD}/sub/deep.vae.safetensors")
    for name in ("anime-v2.pt", "kl-f8.safetensors", "more/other.ckpt"):
        (tmp_path / "models/VAE" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models/VAE" / name).write_bytes(b"")
    return tmp_path


def chosen(data: Path, name: str, setting: str, overrides: bool = True) -> str | None:
    path = choose(data, Library(data).resolve(name), setting, overrides)
    return path.name if path else None


def test_the_files(data: Path) -> None:
    assert list(vae_files(data)) == ["anime-v2.pt", "deep.vae.safetensors", "kl-f8.safetensors", "other.ckpt"]


@pytest.mark.parametrize(
    ("name", "setting", "overrides", "expected"),
    [
        ("plain", "Automatic", True, None),
        ("anime", "Automatic", True, "anime-v2.pt"),
        ("deep", "Automatic", True, "deep.vae.safetensors"),
        ("anime", "None", True, None),
        ("anime", "None", False, "anime-v2.pt"),
        ("anime", "kl-f8.safetensors", True, "kl-f8.safetensors"),
        ("anime", "kl-f8.safetensors", False, "anime-v2.pt"),
        ("plain", "kl-f8.safetensors", False, "kl-f8.safetensors"),
        ("plain", "kl-f8", True, "kl-f8.safetensors"),
        ("plain", "not there", True, None),
    ],
)
def test_the_order_of_the_choice(data: Path, name: str, setting: str, overrides: bool, expected: str | None) -> None:
    assert chosen(data, name, setting, overrides) == expected


def test_user_metadata_come_before_the_name(data: Path) -> None:
    beside = data / SD / "anime.json"
    beside.write_text(json.dumps({"vae": "other.ckpt", "notes": "n"}))
    assert user_metadata(data / SD / "anime.safetensors")["notes"] == "n"
    assert chosen(data, "anime", "Automatic") == "other.ckpt"
    assert chosen(data, "anime", "kl-f8.safetensors") == "kl-f8.safetensors"
    assert chosen(data, "anime", "kl-f8.safetensors", overrides=False) == "other.ckpt"
    beside.write_text(json.dumps({"vae": "None"}))
    assert chosen(data, "anime", "Automatic") is None
    beside.write_text("[" * 100_000)
    assert chosen(data, "anime", "Automatic") == "anime-v2.pt"


def test_checkpoints_come_folder_by_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10", "b9", "10x", "9x", "A", "a-folder/z", "sub10/a", "sub9/a"):
        put(tmp_path, f"{SD}/{name}.safetensors")
    put(tmp_path, f"{SD}/c.vae.safetensors")
    names = [c.name.removesuffix(".safetensors") for c in Library(tmp_path).checkpoints()][:-1]
    assert names == ["9x", "10x", "A", "b9", "b10", "a-folder/z", "sub9/a", "sub10/a"]


def test_linked_folders_are_walked_once(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/m.safetensors")
    (tmp_path / SD).mkdir(parents=True)
    (tmp_path / SD / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / SD)
    assert [c.name for c in Library(tmp_path).checkpoints()][:-1] == ["link/m.safetensors"]


def test_the_old_hash_of_eight_digits(tmp_path: Path) -> None:
    path = put(tmp_path, f"{SD}/big.safetensors", 400_000)
    put(tmp_path, f"{SD}/other.safetensors", 500_000)
    digits = hashlib.sha256(path.read_bytes()[0x100000:0x110000]).hexdigest()[:8]
    library = Library(tmp_path)
    for name in (digits, f"big.safetensors [{digits}]"):
        assert library.resolve(name).filename == path
    with pytest.raises(DanqingError):
        library.resolve("01234567")


def test_of_equal_files_the_last_one_has_the_hash(tmp_path: Path) -> None:
    first, second = put(tmp_path, f"{SD}/aa.safetensors"), put(tmp_path, f"{SD}/bb.safetensors")
    assert first.read_bytes() == second.read_bytes()
    library = Library(tmp_path)
    for checkpoint in library.checkpoints():
        library.hashed(checkpoint)
    sha256 = hashlib.sha256(first.read_bytes()).hexdigest()
    assert library.resolve(sha256[:10]).filename == second
    assert library.resolve("aa").filename == first


def test_parts_of_titles_find_the_shortest(tmp_path: Path) -> None:
    put(tmp_path, f"{SD}/dream-long.safetensors")
    put(tmp_path, f"{SD}/dream.safetensors")
    library = Library(tmp_path)
    assert library.closest("drea").name == "dream.safetensors"
    assert library.closest("dream-l [0123456789]").name == "dream-long.safetensors"
    with pytest.raises(DanqingError) as caught:
        library.resolve("drea")
    assert caught.value.code == "unknown_model"
    with pytest.raises(DanqingError):
        library.closest("nothing like it")
