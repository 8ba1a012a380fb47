"""Pictures and latents that the WebUI drew, drawn again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from danqing.engine import catalog
from danqing.request import GenerateRequest

from . import tiny
from .conftest import Bench

CASES = sorted(path.stem for path in tiny.REFERENCE.glob("*.json") if path.stem != "schedules")
RELATIVE = 2e-4
"""Largest relative distance of latents, as the project promises; measured here: below 5e-6."""


def request_of(case: dict[str, object]) -> GenerateRequest:
    sent = case["request"]
    assert isinstance(sent, dict)
    options = sent.get("override_settings", {})
    sampler, schedule = catalog.split_sampler(sent["sampler_name"], sent.get("scheduler"))
    return GenerateRequest(
        prompt=sent["prompt"],
        negative_prompt=sent.get("negative_prompt", ""),
        sampler=sampler,
        scheduler=schedule,
        steps=sent["steps"],
        cfg_scale=sent["cfg_scale"],
        width=sent["width"],
        height=sent["height"],
        seed=sent["seed"],
        batch_size=sent.get("batch_size", 1),
        clip_skip=options.get("CLIP_stop_at_last_layers", 1),
        rng=options.get("randn_source", "CPU"),
        model="tiny-sd15",
    )


def test_the_checkpoint_is_the_recorded_one(shared_bench: Bench) -> None:
    checkpoint = shared_bench.workshop.library.resolve("tiny-sd15")
    hashed = shared_bench.workshop.library.hashed(checkpoint)
    assert hashed.sha256 is not None
    if not hashed.sha256.startswith(tiny.SHA256_BEGINS):
        pytest.skip("this CPU draws single fp16 values differently; the latents below are compared all the same")


@pytest.mark.parametrize("name", CASES)
def test_latents_and_pixels(shared_bench: Bench, name: str) -> None:
    case = json.loads((tiny.REFERENCE / f"{name}.json").read_text("utf-8"))
    shared_bench.latents.clear()
    drawn = shared_bench.draw(case=request_of(case))["case"]
    assert drawn.error is None
    recorded = np.load(tiny.REFERENCE / f"{name}.0.npz")
    latents = np.concatenate([recorded[key] for key in recorded if key.endswith("_latent")])
    mine = np.stack([latent.numpy() for latent in shared_bench.latents])
    assert mine.shape == latents.shape
    for ours, theirs in zip(mine, latents, strict=True):
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < RELATIVE
    for index, pixels in drawn.images.items():
        picture = np.asarray(Image.open(tiny.REFERENCE / f"{name}.{index}.png").convert("RGB")).astype(int)
        assert np.abs(pixels.astype(int) - picture).max() <= 2
