"""Samplers as functions, on a Gaussian whose flow is known in closed form."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
import torch

from danqing.engine import catalog
from danqing.engine.noise import PictureNoise
from danqing.engine.samplers import WALKS
from danqing.engine.samplers_base import Churn, Course
from danqing.engine.schedules import ModelSigmas, ddim_timesteps, linear_alphas, sigmas

from . import tiny

SIGMAS = ModelSigmas(linear_alphas())
SPREAD = 0.5
"""Standard deviation of the pictures that the denoiser knows; their mean is 0."""
SHAPE = (4, 32, 32)


def walked(
    name: str, steps: int, schedule: str = "Karras", **course: Any
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Where the walk began, where it ended, and the levels it asked at. The denoiser is the posterior mean of N(0, SPREAD²)."""
    noise = PictureNoise("CPU", 3)
    x = noise.first(SHAPE)
    if catalog.sampler(name).family is catalog.Family.SIGMA:
        levels = sigmas(schedule, SIGMAS, steps)
        x = x * levels[0]
        course = {
            "brownian": noise.brownian(SHAPE, levels),
            "span": (SIGMAS.sigma_max, SIGMAS.sigma_min, steps),
            **course,
        }
        answer = _denoised
    else:
        levels = torch.tensor(ddim_timesteps(steps))
        answer = _eps if name != "DDIM CFG++" else _both
    walk, said, asked = WALKS[name](x, Course(levels, lambda: noise.next(SHAPE), SIGMAS, **course)), None, []
    while True:
        try:
            at, level = walk.send(said)  # type: ignore[arg-type]
        except StopIteration as stop:
            return x, stop.value, asked
        asked.append(float(level))
        said = answer(at, level)


def _denoised(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x * SPREAD**2 / (SPREAD**2 + sigma**2)


def _eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The same denoiser in DDPM's own scale."""
    abar = 1 / (SIGMAS.to_sigma(t.reshape(1).clamp(0, 999)) ** 2 + 1)
    return (1 - abar).sqrt() * x / (abar * SPREAD**2 + 1 - abar)


def _both(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.stack([_eps(x, t)] * 2)


FLOW = {"Euler": 0.12, "Heun": 0.02, "LMS": 0.03, "DPM2": 0.02, "DPM++ 2M": 0.02, "Restart": 0.03}
"""Deterministic walks, and how far 20 steps may end from the flow's own end, relatively."""


@pytest.mark.parametrize("name", FLOW)
def test_deterministic_walks_follow_the_flow(name: str) -> None:
    """The exact flow scales x by sqrt(SPREAD² / (SPREAD² + sigma²))."""
    steps = 19 if name == "Restart" else 20
    start, end, _ = walked(name, steps)
    exact = start * SPREAD / math.sqrt(SPREAD**2 + SIGMAS.sigma_max**2)
    assert float((end - exact).norm() / exact.norm()) < FLOW[name]


@pytest.mark.parametrize("name", ["Euler", "Heun", "LMS", "DPM2", "DPM++ 2M"])
def test_more_steps_come_closer(name: str) -> None:
    gaps = []
    for steps in (10, 20, 40):
        start, end, _ = walked(name, steps)
        exact = start * SPREAD / math.sqrt(SPREAD**2 + SIGMAS.sigma_max**2)
        gaps.append(float((end - exact).norm()))
    assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize(("name", "bound"), [("DPM fast", 0.02), ("DPM adaptive", 0.06)])
def test_dpm_solvers_end_at_the_smallest_sigma(name: str, bound: float) -> None:
    start, end, _ = walked(name, 20, eta=0.0)
    exact = start * math.sqrt((SPREAD**2 + SIGMAS.sigma_min**2) / (SPREAD**2 + SIGMAS.sigma_max**2))
    assert float((end - exact).norm() / exact.norm()) < bound


NOISY = [row.name for row in catalog.SAMPLERS if row.brownian or row.name.endswith(" a")] + ["DPM fast", "DPM adaptive"]


@pytest.mark.parametrize("name", NOISY)
def test_noisy_walks_end_in_the_known_spread(name: str) -> None:
    """Of 4096 numbers the deviation is known to 1.1 %; the rest is the walk's own error at 60 steps."""
    _, end, _ = walked(name, 60)
    assert float(end.std()) == pytest.approx(SPREAD, rel=0.08)
    assert abs(float(end.mean())) < 0.04


@pytest.mark.parametrize("name", ["DDIM", "DDIM CFG++", "PLMS", "UniPC"])
def test_walks_along_timesteps_end_in_the_known_spread(name: str) -> None:
    _, end, _ = walked(name, 50)
    assert float(end.std()) == pytest.approx(SPREAD, rel=0.08)


def test_ddim_of_eta_1_is_noisy_and_right() -> None:
    _, end, _ = walked("DDIM", 200, eta=1.0)
    assert float(end.std()) == pytest.approx(SPREAD, rel=0.08)
    assert not torch.equal(end, walked("DDIM", 50)[1])


@pytest.mark.parametrize("name", ["Euler", "Heun", "DPM2"])
def test_churn_keeps_the_spread(name: str) -> None:
    _, end, _ = walked(name, 120 if name == "Euler" else 60, churn=Churn(churn=20.0))
    assert float(end.std()) == pytest.approx(SPREAD, rel=0.08)


def test_churn_acts_between_its_bounds_alone() -> None:
    levels = sigmas("Karras", SIGMAS, 10).tolist()[:-1]
    *_, asked = walked("Euler", 10, churn=Churn(churn=5.0, tmin=1.0, tmax=8.0))
    risen = [level < sigma - 1e-6 for level, sigma in zip(levels, asked, strict=True)]
    assert risen == [1.0 <= level <= 8.0 for level in levels]


def test_churn_is_bounded() -> None:
    levels = sigmas("Karras", SIGMAS, 4).tolist()[:-1]
    *_, asked = walked("Euler", 4, churn=Churn(churn=1000.0))
    assert asked == pytest.approx([level * math.sqrt(2) for level in levels])


def climbs(steps: int) -> int:
    *_, asked = walked("Restart", steps)
    return sum(after > sigma * 1.5 for sigma, after in itertools.pairwise(asked))


def test_restart_climbs_by_the_number_of_steps() -> None:
    assert [climbs(steps) for steps in (19, 20, 35, 36, 60)] == [0, 1, 1, 2, 2]


def test_restart_below_20_is_heun() -> None:
    assert torch.equal(walked("Restart", 12)[1], walked("Heun", 12)[1])


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 20])
def test_dpm_fast_makes_as_many_calls_as_steps(steps: int) -> None:
    assert len(walked("DPM fast", steps)[2]) == steps


def test_dpm_adaptive_ends_on_numbers_that_are_none() -> None:
    walk = WALKS["DPM adaptive"](torch.ones(4), Course(torch.tensor([9.0, 1.0, 0.0]), lambda: torch.zeros(4), SIGMAS))
    x, _ = next(walk)
    calls = 0
    while True:
        try:
            walk.send(x * math.nan)
        except StopIteration:
            break
        calls += 1
    assert calls < 1000


@pytest.mark.parametrize("steps", [7, 12, 20])
def test_ddim_never_asks_for_the_first_timestep(steps: int) -> None:
    *_, asked = walked("DDIM", steps)
    assert asked == ddim_timesteps(steps)[:0:-1]


def test_second_order_names_are_those_that_ask_twice() -> None:
    for row in catalog.SAMPLERS:
        if row.family is catalog.Family.SIGMA and row.name not in ("DPM adaptive", "DPM fast"):
            assert len(walked(row.name, 10)[2]) == (19 if row.second_order else 10)


def test_the_catalogue_is_the_recorded_list() -> None:
    recorded = json.loads((tiny.REFERENCE / "lists" / "samplers.json").read_text("utf-8"))
    mine = [{"name": row.name, "aliases": list(row.aliases), "options": row.options} for row in catalog.SAMPLERS]
    assert mine == recorded
    assert list(WALKS) == catalog.sampler_names()


def test_schedules_are_the_recorded_list() -> None:
    recorded = json.loads((tiny.REFERENCE / "lists" / "schedulers.json").read_text("utf-8"))
    mine = [
        {
            "name": row.name,
            "label": row.label,
            "aliases": list(row.aliases) or None,
            "default_rho": row.default_rho,
            "need_inner_model": row.need_inner_model,
        }
        for row in catalog.SCHEDULES
    ]
    assert mine == recorded


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("DPM++ 2M Karras", None), ("DPM++ 2M", "Automatic")),
        (("DPM++ SDE Karras", None), ("DPM++ SDE", "Automatic")),
        (("DPM++ 2M SDE Karras", None), ("DPM++ 2M SDE", "Karras")),
        (("DPM++ 2M SDE Heun Exponential", None), ("DPM++ 2M SDE Heun", "Automatic")),
        (("Euler a", "Karras"), ("Euler a", "Karras")),
        (("k_euler_a", None), ("DPM++ 2M", "Automatic")),
        (("euler a", None), ("DPM++ 2M", "Automatic")),
    ],
)
def test_names_are_split_as_the_api_does(asked: tuple[str, str | None], found: tuple[str, str]) -> None:
    assert catalog.split_sampler(*asked) == found
