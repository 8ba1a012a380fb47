"""Infotexts that are pasted: options by their labels, LoRAs by their hashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from danqing.api import pasted
from danqing.api.options import load_table
from danqing.engine import told
from danqing.engine.passes import first_stage
from danqing.engine.protocol import ImageFacts
from danqing.gallery import infotext
from danqing.library.networks import Networks
from danqing.options import DrawOptions
from danqing.request import GenerateRequest

PARAMETERS = "Steps: 2, Sampler: Euler, Seed: 1"
FACTS = ImageFacts(1, 64, 64, "tiny", "0123456789", "Beta")


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("Euler", {"s_churn": 2.0, "s_tmin": 0.1, "s_tmax": 5.0, "s_noise": 1.01, "sigma_min": 0.2, "sigma_max": 9.0}),
        ("Euler a", {"eta_ancestral": 0.5, "eta_noise_seed_delta": 31337, "sgm_noise_multiplier": True}),
        ("DDIM", {"eta_ddim": 0.5, "always_discard_next_to_last_sigma": True, "token_merging_ratio": 0.3}),
        ("Euler", {"beta_dist_alpha": 0.4, "beta_dist_beta": 0.7, "use_downcasted_alpha_bar": True}),
        ("Euler", {"sd_noise_schedule": "Zero Terminal SNR"}),
    ],
    ids=lambda value: ", ".join(value)[:40] if isinstance(value, dict) else value,
)
def test_what_was_told_of_options_is_read_back(sampler: str, options: dict[str, object]) -> None:
    request = GenerateRequest.model_validate({"sampler": sampler, "scheduler": "Beta", "options": options})
    pairs = told.of_noise(request) | told.of_sampling(request, first_stage(request))
    text = infotext.write(request, replace(FACTS, extra=dict(pairs)), "v1.10.1")
    found = pasted.overrides(infotext.parse(text), load_table())
    usual = DrawOptions().model_dump()
    drawn = {key: value for key, value in found.items() if key in usual and value != usual[key]}
    assert drawn == options


def test_a_face_restorer_is_read_back() -> None:
    found = pasted.overrides(infotext.parse(f"x\n{PARAMETERS}, Face restoration: GFPGAN"), load_table())
    assert (found["face_restoration"], found["face_restoration_model"]) == (True, "GFPGAN")


def test_loras_are_named_as_they_are_here(tmp_path: Path) -> None:
    """A text's hash says which file of this machine it means; without one, or for one that is not here, the name stays."""
    folder = tmp_path / "models" / "Lora"
    folder.mkdir(parents=True)
    for name, metadata in (("mine", None), ("other", {"ss_output_name": "theirs"})):
        save_file({"x": np.full(4, len(name), np.float32)}, folder / f"{name}.safetensors", metadata)
    networks = Networks(tmp_path)
    digits = {network.name: networks.short_hash(network) for network in networks.loras()}
    text = (
        "a <lora:a:0.5> <lora:b:1:te=2><lora:c:1><lora:d:1>\n"
        f'{PARAMETERS}, Lora hashes: "a: {digits["mine"]}, b: {digits["other"]}, c: 000000000000"'
    )
    found = pasted.with_local_names(infotext.parse(text), networks)
    assert found["Prompt"] == "a <lora:mine:0.5> <lora:theirs:1:te=2><lora:c:1><lora:d:1>"
    plain = infotext.parse(f"a <lora:a:0.5>\n{PARAMETERS}")
    assert pasted.with_local_names(plain, networks) == plain
