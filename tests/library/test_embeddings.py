"""Embedding files of every kind, and those that are none."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from danqing.errors import DanqingError
from danqing.library.embedding_files import _series, read_embedding
from danqing.library.embeddings import Embeddings
from danqing.prompt.tokenizer import default_tokenizer

RECORDED = Path(__file__).parents[1] / "engine" / "reference" / "data" / "embeddings"
VECTORS = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7
SD1 = (("clip_l", 4),)


def check(path: Path, expected: torch.Tensor = VECTORS) -> None:
    found = read_embedding(path)
    assert found is not None
    ((matrix),) = found.vectors.values()
    assert np.allclose(matrix, expected.numpy(), atol=1e-2)


def test_the_recorded_files(tmp_path: Path) -> None:
    shutil.copytree(RECORDED, tmp_path / "embeddings")
    found = Embeddings(tmp_path)
    rows = [(one.name, one.length, one.shape, found.short_hash(one)) for one in found.all()]
    assert rows == [("tiemb", 3, 64, "503e16cc7444"), ("tineg", 2, 64, "b9ab2254b3e0")]
    assert found.all()[1].contents.step == 100


@pytest.mark.parametrize("legacy", [True, False])
def test_pickled_files(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "a.pt"
    webui = {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "inner", "step": 7}
    for data in (webui, {"<word>": VECTORS}, {"string_to_param": torch.nn.ParameterDict({"*": VECTORS})}):
        torch.save(data, path, _use_new_zipfile_serialization=not legacy)
        check(path)
    torch.save({"<word>": VECTORS[0].half()}, path, _use_new_zipfile_serialization=not legacy)
    check(path, VECTORS[:1])


def test_safetensors(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        save_file({"emb_params": VECTORS.to(dtype)}, tmp_path / "a.safetensors")
        check(tmp_path / "a.safetensors")
    save_file({"clip_l": VECTORS, "clip_g": VECTORS.repeat(1, 2)}, tmp_path / "b.safetensors")
    found = read_embedding(tmp_path / "b.safetensors")
    assert found is not None
    assert {kind: matrix.shape for kind, matrix in found.vectors.items()} == {"clip_l": (3, 4), "open_clip_g": (3, 8)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_those_inside_a_lora(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"style{suffix}"
    tensors = {
        "lora_unet_x.lora_up.weight": torch.ones(2, 2),
        "bundle_emb.one.string_to_param.*": VECTORS,
        "bundle_emb.two.clip_l": VECTORS.clone(),
        "bundle_emb.two.clip_g": VECTORS.repeat(1, 2),
    }
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    embeddings = Embeddings(tmp_path)
    one, two = embeddings.bundled([path, tmp_path / "gone.safetensors"])
    assert np.array_equal(one.of("clip_l"), VECTORS.numpy())
    assert (one.name, one.fits(SD1), two.name, two.fits(SD1)) == ("one", True, "two", False)
    assert embeddings.short_hash(one) == "style"
    tokens = default_tokenizer().encode("one")
    assert embeddings.triggers("clip_l", SD1).find(tokens, 0) is None
    assert embeddings.triggers("clip_l", SD1, (one, two)).find(tokens, 0) == (one, 1)
    (tmp_path / "embeddings").mkdir()
    save_file({"emb_params": VECTORS + 1}, tmp_path / "embeddings" / "one.safetensors")
    found = embeddings.triggers("clip_l", SD1, (one, two)).find(tokens, 0)
    assert found is not None
    assert found[0] == embeddings.all()[0], "a file of its own comes first"


def table() -> bytes:
    return json.dumps({"name": "drawn", "string_to_param": {"*": {"TORCHTENSOR": VECTORS.tolist()}}}).encode()


def test_a_text_chunk(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(table()).decode())
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png", pnginfo=info)
    check(tmp_path / "a.png")
    found = Embeddings(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "embeddings")
    assert [one.name for one in found.all()] == ["drawn"]


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_pixels(tmp_path: Path, suffix: str) -> None:
    packed, height = zlib.compress(table()), 16
    raw = np.frombuffer(packed, np.uint8)
    raw = np.concatenate([raw, np.zeros(-len(raw) % (height * 3), np.uint8)])
    blocks = [half.reshape(height, -1, 3) for half in (raw & 0x0F, raw >> 4)]
    blocks = [(block ^ _series(block.size).reshape(block.shape)) | 0x70 for block in blocks]
    black = np.zeros((height, 1, 3), np.uint8)
    middle = np.full((height, 20, 3), 0x55, np.uint8)
    pixels = np.concatenate([blocks[0], black, middle, black, blocks[1]], axis=1)
    Image.fromarray(np.pad(pixels, ((2, 2), (3, 3), (0, 0)))).save(tmp_path / f"a.{suffix}", lossless=True)
    check(tmp_path / f"a.{suffix}")


def test_a_plain_picture_is_no_embedding(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "a.png")
    assert read_embedding(tmp_path / "a.png") is None


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "embeddings"
    folder.mkdir()
    torch.save({"string_to_param": Evil()}, folder / "evil.pt")
    (folder / "evil2.bin").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"a": VECTORS, "b": VECTORS}, folder / "two.pt")
    torch.save({"a": VECTORS / 0}, folder / "nan.pt")
    torch.save({"a": torch.zeros(2, 3, 4)}, folder / "cube.pt")
    (folder / "huge.safetensors").write_bytes((100 * 2**30).to_bytes(8, "little") + b"{}")
    (folder / "short.pt").write_bytes((RECORDED / "tineg.pt").read_bytes()[:900])
    (folder / "empty.pt").write_bytes(b"")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    found = Embeddings(tmp_path)
    assert found.all() == []
    codes = {name: error.code for name, error in found.broken().items()}
    assert {name for name, code in codes.items() if code == "model_unsafe"} == {"evil", "evil2"}
    assert set(codes) == {"evil", "evil2", "two", "nan", "cube", "huge", "short", "empty", "broken"}
    assert capsys.readouterr().out == ""
    with pytest.raises(DanqingError):
        read_embedding(folder / "no such file.pt")


def test_new_files_are_found_and_gone_ones_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "embeddings" / "deep"
    folder.mkdir(parents=True)
    found = Embeddings(tmp_path)
    assert found.all() == []
    tokens = default_tokenizer().encode("a Newword cat")
    assert found.triggers("clip_l", SD1).find(tokens, 1) is None
    torch.save({"a": VECTORS}, folder / "newword.pt")
    shutil.copy(folder / "newword.pt", folder / "newword.preview.png")
    hit = found.triggers("clip_l", SD1).find(tokens, 1)
    assert hit is not None
    assert (hit[0].name, found.broken()) == ("newword", {})
    assert found.triggers("clip_l", (("clip_l", 5),)).find(tokens, 1) is None
    (folder / "newword.pt").unlink()
    assert found.all() == []
    assert found.triggers("clip_l", SD1).find(tokens, 1) is None


def test_a_file_overwritten_in_place_is_seen(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    path = tmp_path / "embeddings" / "a.pt"
    torch.save({"a": VECTORS}, path)
    found = Embeddings(tmp_path)
    (first,) = found.all()
    torch.save({"a": VECTORS[:1]}, path)
    (second,) = found.all()
    assert (first.length, second.length) == (3, 1)
    assert first != second
