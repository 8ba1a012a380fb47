"""Hostile and broken model files: each gets its named error, and the engine draws the next request."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from danqing.request import GenerateRequest

from . import tiny
from .conftest import Bench

KEY = "model.diffusion_model.time_embed.0.weight"
YAML = (tiny.REFERENCE / "tiny-sd15.yaml").read_text("utf-8")


class Call:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def huge_header(path: Path) -> None:
    path.write_bytes((100 * 2**30).to_bytes(8, "little") + b"{}")


def cut_short(path: Path) -> None:
    save_file(tiny.tensors(), path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def lora(path: Path) -> None:
    save_file({"lora_unet_mid_block.lora_up.weight": torch.zeros(2, 2)}, path)


def wrong_shape(path: Path) -> None:
    save_file({**tiny.tensors(), KEY: torch.zeros(3, 3)}, path)


def not_numbers(path: Path) -> None:
    save_file({**tiny.tensors(), KEY: torch.full((128, 32), torch.nan)}, path)


def runs_code(path: Path) -> None:
    torch.save({"state_dict": {"a": Call(f"touch {path.parent / 'executed'}")}}, path)


FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "runs code": ("bad.ckpt", runs_code, "model_unsafe"),
    "claims 100 GB": ("bad.safetensors", huge_header, "model_broken"),
    "cut short": ("bad.safetensors", cut_short, "model_broken"),
    "a LoRA": ("bad.safetensors", lora, "model_broken"),
    "wrong shape": ("bad.safetensors", wrong_shape, "model_broken"),
    "NaN": ("bad.safetensors", not_numbers, "nan_picture"),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    data = tmp_path_factory.mktemp("hostile")
    tiny.write(data)
    return Bench(data)


@pytest.mark.parametrize("name", FILES)
def test_bad_files_are_named_and_the_next_request_is_drawn(bench: Bench, name: str) -> None:
    file, write, code = FILES[name]
    folder = bench.workshop.library.folder
    path = folder / file
    write(path)
    path.with_suffix(".yaml").write_text(YAML, "utf-8")
    fields = {"prompt": "x", "steps": 2, "width": 64, "height": 64, "seed": 1, "sampler": "Euler"}
    try:
        drawn = bench.draw(bad=GenerateRequest(model=file, **fields), good=GenerateRequest(model="tiny-sd15", **fields))
        after = bench.draw(after=GenerateRequest(model="tiny-sd15", **fields))
    finally:
        path.unlink()
    error = drawn["bad"].error
    assert error is not None
    assert error.code == code
    assert "bad." in error.text("en")
    assert not drawn["bad"].images
    assert len(drawn["good"].images) == len(after["after"].images) == 1
    assert not (folder / "executed").exists()
