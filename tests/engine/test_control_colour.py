"""tile_colorfix while sampling, against its formula step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from danqing.engine.colour_fix import FINE, REACH, SHARPEN, Said, blurred
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.gallery import inputs
from danqing.request import ControlUnit
from tests.parity.fixture import make

from .conftest import Bench
from .peers import BASE, STEPS, apart, model_of, noise, parts, photograph, scheduler

VARIATION = 4
SHARPNESS = 2.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(make(tmp_path_factory.mktemp("colour")), engine_gain=10.0)


def unit(bench: Bench, module: str, **fields: object) -> ControlUnit:
    """A unit whose network is silent, so that the fix alone is seen."""
    return ControlUnit(
        **{
            "module": module,
            "model": "control_tiny11_sd15_canny",
            "image": inputs.keep_image(bench.workshop.studio.data, photograph(1)),
            "advanced_weighting": (0.0,),
            "threshold_a": float(VARIATION),
            "threshold_b": SHARPNESS,
            "save_detected_map": False,
            **fields,
        }
    )


def ours(bench: Bench, *control: ControlUnit) -> torch.Tensor:
    bench.latents.clear()
    done = bench.draw(a=BASE.model_copy(update={"control": control}))["a"]
    assert done.error is None, done.error
    return bench.latents[-1]


def low(latent: torch.Tensor, deviation: float) -> torch.Tensor:
    """SciPy's Gaussian of every channel of (1, C, h, w)."""
    found = gaussian_filter(latent[0].double().numpy(), deviation, mode="nearest", truncate=REACH, axes=(1, 2))
    return torch.from_numpy(found).float()[None]


@torch.no_grad()
def by_formula(bench: Bench, sharp: bool, weight: float, until: float) -> torch.Tensor:
    model, steps = model_of(bench), scheduler()
    steps.set_timesteps(STEPS)
    made = parts(model)
    texts = [
        model.text(made["tokenizer"](text, padding="max_length", max_length=77, return_tensors="pt").input_ids)[0]
        for text in (BASE.prompt, BASE.negative_prompt)
    ]
    pixels = torch.from_numpy(np.array(photograph(1))).float().permute(2, 0, 1)[None] / 127.5 - 1
    reference = model.vae.encode(pixels).latent_dist.mean * model.vae.config.scaling_factor

    x = noise(BASE) * steps.init_noise_sigma
    for call, t in enumerate(steps.timesteps):
        sigma, said = float(steps.sigmas[call]), []
        for context in texts:
            eps = model.unet(steps.scale_model_input(x, t), t, encoder_hidden_states=context, return_dict=False)[0]
            clean = x - sigma * eps
            acts = weight if call / STEPS <= until else 0.0
            fixed = clean + acts * (low(reference, VARIATION / 2) - low(clean, VARIATION / 2))
            if sharp:
                fixed = fixed + acts * SHARPEN * SHARPNESS * (fixed - low(fixed, FINE))
            said.append((x - fixed) / sigma)
        x = steps.step(said[1] + BASE.cfg_scale * (said[0] - said[1]), t, x).prev_sample
    return x[0]


@pytest.mark.parametrize(
    ("module", "weight", "until"),
    [("tile_colorfix", 1.0, 1.0), ("tile_colorfix", 0.6, 0.5), ("tile_colorfix+sharp", 1.0, 1.0)],
)
def test_the_fix_is_its_formula(bench: Bench, module: str, weight: float, until: float) -> None:
    found = ours(bench, unit(bench, module, weight=weight, guidance_end=until))
    assert apart(found, by_formula(bench, module.endswith("sharp"), weight, until)) < 1e-3
    assert apart(found, ours(bench)) > 0.02
    if module.endswith("sharp"):
        assert apart(found, ours(bench, unit(bench, "tile_colorfix"))) > 1e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_an_answer_and_its_clean_latent(prediction: str) -> None:
    x, said = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    moment = Said(x, 612.5, ModelSigmas(linear_alphas()), prediction)
    assert torch.allclose(moment.answer(moment.clean(said)), said, atol=1e-4)


def test_a_blur_leaves_what_is_even_and_takes_what_is_fine() -> None:
    """Also of latents that are smaller than the blur is wide."""
    assert torch.allclose(blurred(torch.ones(4, 5, 7), 16.0), torch.ones(4, 5, 7))
    stripes = torch.arange(40).remainder(2).float().expand(4, 40, 40)
    assert (blurred(stripes, 1.5)[:, 8:-8, 8:-8] - 0.5).abs().max() < 1e-2
