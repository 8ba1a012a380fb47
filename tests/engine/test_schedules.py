from __future__ import annotations

import json

import pytest
import torch

from danqing.engine import catalog
from danqing.engine.schedules import RULES, ModelSigmas, ddim_timesteps, linear_alphas, sigmas

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
