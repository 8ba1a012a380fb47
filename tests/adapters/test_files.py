"""Adapter files: formats, what they hold, and those that are refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.adapters.files import Files, LoraFile
from danqing.adapters.hypernetwork import Hypernetwork
from danqing.adapters.reading import read
from danqing.errors import DanqingError

from .support import normal, write

STEM = "lora_unet_mid_block_attentions_0_proj_in"
TENSORS = {
    STEM + ".lora_down.weight": normal(2, 8),
    STEM + ".lora_up.weight": normal(6, 2, seed=1),
    STEM + ".alpha": torch.tensor(1.0),
}


def lora_file(path: Path) -> LoraFile:
    file = Files(2**20).get("lora", path, 0)
    assert isinstance(file, LoraFile)
    return file


def delta_of(file: LoraFile) -> torch.Tensor:
    (layer,) = file.layers.values()
    delta, _ = layer.changes(torch.zeros(6, 8))
    assert delta is not None
    return delta


EXPECTED = normal(6, 2, seed=1) @ normal(2, 8) * 0.5


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.ckpt", "old.pt", "wrapped.ckpt"])
def test_formats(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".safetensors"):
        write(path, TENSORS)
    elif name.startswith("wrapped"):
        torch.save({"state_dict": TENSORS, "epoch": 3}, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=not name.startswith("old"))
    assert torch.allclose(delta_of(lora_file(path)), EXPECTED)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_number_formats(tmp_path: Path, dtype: torch.dtype) -> None:
    path = write(tmp_path / "a.safetensors", {k: v.to(dtype) for k, v in TENSORS.items()})
    assert (delta_of(lora_file(path)) - EXPECTED).abs().max() < (0.1 if dtype.itemsize == 1 else 0.01)


def test_peft_keeps_alpha_in_the_metadata(tmp_path: Path) -> None:
    tensors = {
        "unet.a.b.lora_A.weight": TENSORS[STEM + ".lora_down.weight"],
        "unet.a.b.lora_B.weight": TENSORS[STEM + ".lora_up.weight"],
    }
    scales: dict[str, dict[str, Any]] = {
        "plain": {"unet.lora_alpha": 4, "unet.r": 2},
        "by module": {"unet.lora_alpha": 4, "unet.alpha_pattern": {"b": 1}},
        "root": {"unet.lora_alpha": 4, "unet.use_rslora": True},
        "other network": {"text_encoder.lora_alpha": 4},
    }
    found = {}
    for name, rows in scales.items():
        path = write(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(rows)})
        (layer,) = lora_file(path).layers.values()
        found[name] = layer.scale
    assert found == pytest.approx({"plain": 2.0, "by module": 0.5, "root": 4 / 2**0.5, "other network": 1.0})


def test_bundled_embeddings(tmp_path: Path) -> None:
    vectors = normal(3, 8)
    tensors = {**TENSORS, "bundle_emb.my style.string_to_param.*": vectors, "bundle_emb.xl.clip_g": vectors}
    file = lora_file(write(tmp_path / "a.safetensors", tensors))
    assert len(file.layers) == 1
    assert torch.equal(file.embeddings["my style"]["string_to_param.*"], vectors)
    assert set(file.embeddings) == {"my style", "xl"}


class Runs:
    """Would run a command if a pickle of it were believed."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/danqing-adapter-ran",)


def hostile(path: Path) -> dict[str, Path]:
    path.mkdir()
    files = {
        name: path / name
        for name in ("plain.pt", "zip.ckpt", "nested.pt", "long.safetensors", "short.safetensors", "no.pt")
    }
    files["plain.pt"].write_bytes(pickle.dumps({"a": Runs()}))
    torch.save({"a": Runs()}, files["zip.ckpt"])
    torch.save({64: [{"linear.0.weight": Runs()}, {}]}, files["nested.pt"])
    files["long.safetensors"].write_bytes((100 * 2**30).to_bytes(8, "little") + b"{}")
    whole = write(path / "whole.safetensors", TENSORS).read_bytes()
    files["short.safetensors"].write_bytes(whole[: len(whole) - 20])
    files["no.pt"].write_bytes(b"not a file of weights")
    return files


@pytest.mark.parametrize("kind", ["lora", "hypernet"])
def test_hostile_and_broken_files_are_refused(tmp_path: Path, kind: str) -> None:
    ran = Path("/tmp/danqing-adapter-ran")
    ran.unlink(missing_ok=True)
    for name, path in hostile(tmp_path / "h").items():
        with pytest.raises(DanqingError) as caught:
            Files(2**20).get(kind, path, 0)
        assert caught.value.code in ("model_unsafe", "model_broken"), name
        assert caught.value.params["name"] == name
    assert not ran.exists()


def test_a_packed_archive_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", b"\0" * 50_000_000)
    with pytest.raises(DanqingError):
        read(path)


def test_lists_of_one_list_are_read_once(tmp_path: Path) -> None:
    """64 lists, each of the one before it twice: walked one by one they are 2 ** 64."""
    tree: list[Any] = []
    for _ in range(64):
        tree = [tree, tree]
    torch.save({**TENSORS, "more": tree}, tmp_path / "a.pt")
    assert set(read(tmp_path / "a.pt").tensors) == set(TENSORS)


def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    for tensors, word in (
        ({"model.diffusion_model.out.2.weight": normal(4, 4)}, "checkpoint"),
        ({"emb_params": normal(2, 8)}, "emb_params"),
        ({STEM + ".lora_up.weight": normal(2, 8)}, STEM),
    ):
        with pytest.raises(DanqingError) as caught:
            lora_file(write(tmp_path / "a.safetensors", tensors))
        assert caught.value.code == "adapter_broken"
        assert word in str(caught.value.params["reason"])


def test_files_are_kept_within_limits(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.safetensors", TENSORS) for n in range(3)]
    files = Files(2 * paths[0].stat().st_size)
    first = files.get("lora", paths[0], 0)
    assert files.get("lora", paths[0], 0) is first
    files.get("lora", paths[1], 0)
    files.get("lora", paths[2], 0)
    assert len(files._kept) == 2
    assert files.get("lora", paths[0], 0) is not first
    assert files.get("lora", paths[0], 1) is not files.get("lora", paths[0], 0)


OLD = {
    "linear1.weight": normal(16, 8),
    "linear1.bias": normal(16),
    "linear2.weight": normal(8, 16),
    "linear2.bias": normal(8),
}


def hypernetwork(tmp_path: Path, content: Any) -> Hypernetwork:
    path = tmp_path / "h.pt"
    torch.save(content, path)
    file = Files(2**20).get("hypernet", path, 0)
    assert isinstance(file, Hypernetwork)
    return file


def test_the_first_hypernetworks_named_their_layers_so(tmp_path: Path) -> None:
    file = hypernetwork(tmp_path, {8: (OLD, OLD), "step": 5})
    pair = file.networks(8, torch.device("cpu"), torch.float32)
    assert pair is not None
    assert file.networks(9, torch.device("cpu"), torch.float32) is None
    x = normal(2, 3, 8)
    hidden = x @ OLD["linear1.weight"].T + OLD["linear1.bias"]
    assert torch.allclose(pair[0](x), hidden @ OLD["linear2.weight"].T + OLD["linear2.bias"], atol=1e-5)


def test_prelu_and_an_activated_output(tmp_path: Path) -> None:
    new = {name.replace("linear1", "linear.0").replace("linear2", "linear.2"): v for name, v in OLD.items()}
    state = {**new, "linear.1.weight": torch.tensor([0.1])}
    file = hypernetwork(tmp_path, {8: (state, state), "activation_func": "prelu"})
    pair = file.networks(8, torch.device("cpu"), torch.float32)
    assert pair is not None
    x = normal(2, 3, 8)
    hidden = x @ OLD["linear1.weight"].T + OLD["linear1.bias"]
    hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
    assert torch.allclose(pair[1](x), hidden @ OLD["linear2.weight"].T + OLD["linear2.bias"], atol=1e-5)
    # Before the choice existed the output was activated too.
    relu = hypernetwork(tmp_path, {8: (new, new), "activation_func": "relu"}).networks(
        8, torch.device("cpu"), torch.float32
    )
    assert relu is not None
    assert float(relu[0](x).min()) == 0.0


@pytest.mark.parametrize(
    "content",
    [
        {"a": normal(3)},
        {8: [OLD]},
        {8: (OLD, {**OLD, "linear2.weight": normal(9, 16)})},
        {8: (OLD, {**OLD, "linear1.weight": normal(16, 5)})},
        {8: (OLD, OLD), "activation_func": "__import__"},
        {8: (OLD, {"linear.weight": normal(8, 8)})},
        {8: (OLD, {**OLD, "linear2.bias": normal(7)})},
        {8: (OLD, {**OLD, "linear.2.weight": normal(1), "linear.2.bias": normal(1)})},
        {8: (OLD, {**OLD, "linear.2.weight": normal(8), "linear.2.bias": normal(3)})},
        {8: 3},
    ],
)
def test_damaged_hypernetworks_are_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DanqingError) as caught:
        hypernetwork(tmp_path, content)
    assert caught.value.code == "adapter_broken"
