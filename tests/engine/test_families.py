"""Every family of checkpoints draws through the engine, from its file to the picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors.torch import save_file

from danqing.request import GenerateRequest

from ..library import layouts
from .conftest import Bench

FAMILIES = {"sd2": layouts.SD2, "sdxl": layouts.SDXL, "refiner": layouts.REFINER, "inpaint": layouts.SD1}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    data = tmp_path_factory.mktemp("families")
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name, layout in FAMILIES.items():
        channels = 9 if name == "inpaint" else 4
        real = dataclasses.replace(layout, vocabulary=49408, in_channels=channels)
        save_file(layouts.tensors(real), folder / f"{name}.safetensors")
        prediction = "v" if name == "sd2" else None
        (folder / f"{name}.yaml").write_text(layouts.yaml(real, prediction))
    return Bench(data)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws(bench: Bench, family: str) -> None:
    def request(prompt: str) -> GenerateRequest:
        return GenerateRequest(
            prompt=prompt, negative_prompt="blurry", model=family, steps=2, width=64, height=64, seed=3, sampler="Euler"
        )

    drawn = bench.draw(one=request("a (red:1.3) cat"), other=request("a dog"))
    for job in drawn.values():
        assert job.error is None, job.error
        assert job.images[0].shape == (64, 64, 3)
    assert np.any(drawn["one"].images[0] != drawn["other"].images[0])
