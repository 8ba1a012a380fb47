from __future__ import annotations

import json

import pytest
import torch

from danqing.engine import catalog
from danqing.engine.samplers_lcm import LcmSigmas
from danqing.engine.schedules import RULES, ModelSigmas, ddim_timesteps, linear_alphas, sigmas
from danqing.options import DrawOptions

from . import tiny

RECORDED = json.loads((tiny.REFERENCE / "schedules.json").read_text("utf-8"))
MODEL = ModelSigmas(linear_alphas())


def test_catalogue_and_rules_name_the_same_schedules() -> None:
    assert list(RULES) == catalog.schedule_labels()


@pytest.mark.parametrize("case", [key for key in RECORDED["sigmas"] if not key.startswith("_")])
def test_sigmas_are_the_recorded_ones(case: str) -> None:
    label, steps = case.split("/")
    torch.testing.assert_close(
        sigmas(label, MODEL, int(steps)),
        torch.tensor(RECORDED["sigmas"][case]),
        rtol=1e-5,
        atol=1e-6,
        equal_nan=True,
    )


@pytest.mark.parametrize("steps", RECORDED["timesteps"])
def test_ddim_timesteps_are_the_recorded_ones(steps: str) -> None:
    assert ddim_timesteps(int(steps)) == RECORDED["timesteps"][steps]


def test_to_t_inverts_to_sigma() -> None:
    t = torch.tensor([0.0, 0.5, 17.25, 998.9, 999.0])
    torch.testing.assert_close(MODEL.to_t(MODEL.to_sigma(t)), t, rtol=1e-4, atol=1e-3)


def test_more_steps_than_timesteps_do_not_divide_by_zero() -> None:
    assert len(ddim_timesteps(5000)) == 1000


NAMED = [label for label in catalog.schedule_labels() if label not in ("Automatic", "Uniform")]
BOUNDED = ["Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal", "Normal", "Beta"]
"""Schedules that begin and end where the options say."""


@pytest.mark.parametrize("label", BOUNDED)
def test_options_move_the_ends(label: str) -> None:
    levels = sigmas(label, MODEL, 10, DrawOptions(sigma_min=0.5, sigma_max=8.0))
    assert float(levels[0]) == pytest.approx(8.0, rel=1e-4)
    if label != "SGM Uniform":
        assert float(levels[-1 if label == "KL Optimal" else -2]) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("label", ["Automatic", "Uniform", "Simple", "DDIM", "Align Your Steps"])
def test_options_do_not_move_the_ends_of_the_others(label: str) -> None:
    moved = sigmas(label, MODEL, 10, DrawOptions(sigma_min=0.5, sigma_max=8.0, use_old_karras_scheduler_sigmas=True))
    assert torch.equal(moved, sigmas(label, MODEL, 10))


@pytest.mark.parametrize("label", BOUNDED)
def test_old_ends(label: str) -> None:
    old = sigmas(label, MODEL, 10, DrawOptions(use_old_karras_scheduler_sigmas=True))
    torch.testing.assert_close(old, sigmas(label, MODEL, 10, DrawOptions(sigma_min=0.1, sigma_max=10.0)))


def test_rho_is_of_karras_and_polyexponential() -> None:
    options = DrawOptions(rho=3.0)
    changed = {label for label in RULES if not torch.equal(sigmas(label, MODEL, 9, options), sigmas(label, MODEL, 9))}
    assert changed == {"Karras", "Polyexponential"}
    by_hand = [(14.6146 ** (1 / 3) + i / 8 * (0.0292 ** (1 / 3) - 14.6146 ** (1 / 3))) ** 3 for i in range(9)]
    torch.testing.assert_close(sigmas("Karras", MODEL, 9, options)[:-1], torch.tensor(by_hand), rtol=1e-3, atol=1e-4)


def test_beta_has_its_two_parameters() -> None:
    """With both 1 the distribution is even, so that sigmas are."""
    levels = sigmas("Beta", MODEL, 5, DrawOptions(beta_dist_alpha=1.0, beta_dist_beta=1.0))
    torch.testing.assert_close(levels[:-1], torch.linspace(MODEL.sigma_max, MODEL.sigma_min, 5))


@pytest.mark.parametrize("label", NAMED)
def test_discarding_leaves_out_the_last_but_one(label: str) -> None:
    longer = sigmas(label, MODEL, 11)
    for kept in (sigmas(label, MODEL, 10, discard=True), sigmas(label, MODEL, 10, DISCARD)):
        assert torch.equal(kept, torch.cat([longer[:-2], longer[-1:]]))


DISCARD = DrawOptions(always_discard_next_to_last_sigma=True)


def test_align_your_steps_has_a_table_for_sdxl() -> None:
    levels = sigmas("Align Your Steps", MODEL, 11, xl=True)
    torch.testing.assert_close(levels[[1, -2]], torch.tensor([6.315, 0.029]))


def test_zero_terminal_snr_ends_in_noise_alone() -> None:
    variant = MODEL.variant(DrawOptions(sd_noise_schedule="Zero Terminal SNR"))
    assert float(variant.alphas_cumprod[-1]) == pytest.approx(4.8973451890853435e-08)
    assert float(variant.alphas_cumprod[0]) == pytest.approx(float(MODEL.alphas_cumprod[0]))
    assert variant.sigma_max == pytest.approx(4518.8, rel=1e-4)


def test_downcast_alphas_are_of_half_precision() -> None:
    variant = MODEL.variant(DrawOptions(use_downcasted_alpha_bar=True))
    assert variant.alphas_cumprod.dtype == torch.float16
    torch.testing.assert_close(variant.sigmas, MODEL.sigmas, rtol=0.1, atol=0)
    assert not torch.equal(variant.sigmas, MODEL.sigmas)


def test_variants_are_made_once_and_only_where_asked_for() -> None:
    options = DrawOptions(enable_quantization=True)
    assert MODEL.variant(DrawOptions()) is MODEL
    assert MODEL.variant(options) is MODEL.variant(options)
    assert float(MODEL.variant(options).to_t(MODEL.to_sigma(torch.tensor([17.4])))) == 17.0


def test_lcm_knows_fifty_timesteps() -> None:
    lcm = LcmSigmas(MODEL)
    assert len(lcm.sigmas) == 50
    assert float(lcm.sigmas[0]) == float(MODEL.sigmas[19])
    assert float(lcm.to_t(torch.tensor([14.6]))) == 999.0
    assert float(lcm.to_t(MODEL.to_sigma(torch.tensor([45.0])))) == 39.0
    torch.testing.assert_close(lcm.to_sigma(torch.tensor([999.0, 19.0])), MODEL.sigmas[[999, 19]])
