"""The safety checker with a tiny network of random numbers, whose thresholds say what it finds: everything, or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.engine.safety import FOLDER, TOLD
from danqing.request import GenerateRequest

from .conftest import Bench

BASE = GenerateRequest(prompt="a red circle", sampler="Euler", steps=3, width=64, height=64, seed=5, model="tiny-sd15")
FINDS_ALL, FINDS_NOTHING = -2.0, 2.0
"""Thresholds of a cosine."""


def write_network(data: Path, threshold: float) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=vision | {"image_size": 32, "patch_size": 16}, projection_dim=4)
    torch.manual_seed(0)
    network = StableDiffusionSafetyChecker(config)
    for weights in (network.concept_embeds_weights, network.special_care_embeds_weights):
        weights.data.fill_(threshold)
    for embeds in (network.concept_embeds, network.special_care_embeds):
        embeds.data.normal_()
    network.save_pretrained(data.joinpath(*FOLDER))


@pytest.fixture(autouse=True)
def gone_afterwards(tiny_data: Path) -> Iterator[None]:
    """Other tests draw with the same data folder."""
    yield
    shutil.rmtree(tiny_data.joinpath(*FOLDER), ignore_errors=True)


def drawn(make_bench: Callable[..., Bench], tiny_data: Path, threshold: float, request: GenerateRequest = BASE) -> Any:
    bench = make_bench(safety_checker=True, preview_seconds=0.0)
    write_network(tiny_data, threshold)
    return bench.draw(a=request)["a"]


def test_what_it_finds_comes_out_black_and_says_so(make_bench: Callable[..., Bench], tiny_data: Path) -> None:
    found = drawn(make_bench, tiny_data, FINDS_ALL, BASE.model_copy(update={"n_iter": 2}))
    assert found.error is None
    assert [found.images[place].max() for place in (0, 1)] == [0, 0]
    assert TOLD.items() <= found.facts[0]["extra"].items()
    assert found.previews == []


def test_other_pictures_are_as_without_it(make_bench: Callable[..., Bench], tiny_data: Path) -> None:
    expected = make_bench().draw(a=BASE)["a"]
    found = drawn(make_bench, tiny_data, FINDS_NOTHING)
    assert (found.images[0] == expected.images[0]).all()
    assert found.facts[0] == expected.facts[0]


def test_without_its_files_nothing_is_drawn(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(safety_checker=True)
    error = bench.draw(a=BASE)["a"].error
    assert error is not None
    assert error.code == "files_missing"
    assert "model.safetensors" in str(error.params["files"])


def test_files_that_are_no_network_are_told(make_bench: Callable[..., Bench], tiny_data: Path) -> None:
    bench = make_bench(safety_checker=True)
    folder = tiny_data.joinpath(*FOLDER)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"nothing")
    error = bench.draw(a=BASE)["a"].error
    assert error is not None
    assert error.code == "model_broken"
