"""Networks of prompts through the real engine: the WebUI's pictures again, several requests at once, files that do not fit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.options import DrawOptions
from danqing.request import GenerateRequest

from ..adapters.support import normal, write
from . import tiny
from .conftest import Bench, Drawn

CASES = ("p_lora", "p_lora_te_unet", "p_lora_alias", "p_lora_missing", "p_hypernet", "p_hypernet05")
RELATIVE = 2e-4
STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


class Runs:
    """Would run a command if a pickle of it were believed."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/danqing-engine-ran",)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    data = tmp_path_factory.mktemp("networks")
    tiny.write(data)
    shutil.copytree(tiny.REFERENCE / "data", data, dirs_exist_ok=True)
    folder = data / "models" / "Lora"
    write(folder / "loha.safetensors", {STEM + f".hada_w{i}_{x}": normal(32, 32, seed=i) for i in (1, 2) for x in "ab"})
    write(
        folder / "sdxl.safetensors",
        {STEM + ".lora_down.weight": normal(4, 640), STEM + ".lora_up.weight": normal(640, 4)},
    )
    torch.save({STEM + ".lora_down.weight": Runs()}, folder / "hostile.pt")
    return Bench(data, engine_gain=10.0)


def request(prompt: str, **more: Any) -> GenerateRequest:
    values = {"steps": 4, "width": 64, "height": 64, "seed": 5, "sampler": "Euler", "rng": "CPU", "cfg_scale": 7.0}
    return GenerateRequest(prompt=prompt, negative_prompt="blurry", model="tiny-sd15", **{**values, **more})


@pytest.mark.parametrize("name", CASES)
def test_the_webuis_pictures(bench: Bench, name: str) -> None:
    folder = tiny.REFERENCE / "txt2img"
    case = json.loads((folder / f"{name}.json").read_text("utf-8"))
    sent = case["request"]
    bench.latents.clear()
    asked = request(sent["prompt"], steps=sent["steps"], width=128, height=128, seed=sent["seed"])
    drawn = bench.draw(case=asked.model_copy(update={"negative_prompt": sent["negative_prompt"]}))["case"]
    assert drawn.error is None
    theirs = np.load(folder / f"{name}.0.npz")["iter0_latent"][0]
    assert np.linalg.norm(bench.latents[0].numpy() - theirs) / np.linalg.norm(theirs) < RELATIVE
    picture = np.asarray(Image.open(folder / f"{name}.0.png").convert("RGB")).astype(int)
    assert np.abs(drawn.images[0].astype(int) - picture).max() <= 2
    extra = case["info"]["extra_generation_params"]
    assert drawn.facts[0]["extra"].get("Lora hashes") == extra.get("Lora hashes")


PROMPTS = (
    "a cat",
    "a cat <lora:tinylora:1>",
    "a cat <lora:tinylora:0.4:1>",
    "a cat <lora:tinylora:0.4><lora:loha:0.5>",
    "a cat <hypernet:tinyhn:0.7>",
    "a cat <lora:loha:1><hypernet:tinyhn:0.7>",
)


def test_an_embedding_inside_a_lora(bench: Bench) -> None:
    """It stands for its name where the LoRA is used, and only there."""
    studio = bench.workshop.studio
    vectors = next(one for one in studio.embeddings.all() if one.name == "tiemb").of("clip_l")
    tensors = {
        STEM + ".lora_down.weight": torch.zeros(2, 32),
        STEM + ".lora_up.weight": torch.zeros(32, 2),
        "bundle_emb.inside.string_to_param.*": torch.from_numpy(vectors),
    }
    write(studio.data / "models" / "Lora" / "with.safetensors", tensors)
    drawn = bench.draw(
        **{
            "file": request("a tiemb cat"),
            "inside": request("a inside cat <lora:with:1>"),
            "words": request("a inside cat"),
            "silent": request("a inside cat <lora:with:1>", options=DrawOptions(lora_bundled_ti_to_infotext=False)),
        }
    )
    assert apart(drawn["file"], drawn["inside"]) <= 1
    assert apart(drawn["file"], drawn["words"]) > 2
    assert drawn["inside"].facts[0]["extra"]["TI hashes"] == "inside: with"
    assert "TI hashes" not in drawn["silent"].facts[0]["extra"]


def apart(one: Drawn, other: Drawn) -> int:
    return int(np.abs(one.images[0].astype(int) - other.images[0].astype(int)).max())


def test_requests_with_different_networks_at_once(bench: Bench) -> None:
    alone = [bench.draw(one=request(prompt))["one"] for prompt in PROMPTS]
    together = bench.draw(**{str(n): request(prompt) for n, prompt in enumerate(PROMPTS)})
    for n, drawn in enumerate(alone):
        assert drawn.error is None
        assert apart(drawn, together[str(n)]) <= 1, PROMPTS[n]
        for other in alone[:n]:
            assert apart(drawn, other) > 2
    assert np.array_equal(bench.draw(one=request(PROMPTS[0]))["one"].images[0], alone[0].images[0])


@pytest.mark.parametrize(("name", "code"), [("sdxl", "adapter_misfit"), ("hostile", "model_unsafe")])
def test_a_file_that_does_not_fit_fails_its_own_job(bench: Bench, name: str, code: str) -> None:
    good = bench.draw(good=request("a cat"))["good"]
    drawn = bench.draw(bad=request(f"a cat <lora:{name}:1>"), good=request("a cat"))
    assert drawn["bad"].error is not None
    assert drawn["bad"].error.code == code
    assert drawn["good"].error is None
    assert apart(drawn["good"], good) <= 1
    assert not Path("/tmp/danqing-engine-ran").exists()


def test_strengths_of_the_unet_share_a_conditioning_of_text_strength_zero(bench: Bench) -> None:
    """A network whose text strength is 0 leaves the text encoder as it is."""
    plain = bench.draw(one=request("a cat"))["one"]
    off = bench.draw(one=request("a cat <lora:tinylora:0:0>"))["one"]
    assert apart(plain, off) == 0


def test_tiling_and_token_merging(bench: Bench) -> None:
    plain = bench.draw(one=request("a cat"))["one"]
    tiled = bench.draw(one=request("a cat", tiling=True))["one"]
    merged = bench.draw(one=request("a cat", options=DrawOptions(token_merging_ratio=0.5)))["one"]
    assert apart(plain, tiled) > 2
    assert apart(plain, merged) > 2
    again = bench.draw(one=request("a cat"))["one"]
    assert apart(plain, again) == 0
