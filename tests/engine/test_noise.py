from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torchsde

from danqing.engine.noise import BrownianNoise, PhiloxGenerator, PictureNoise, generator, slerp

from . import tiny

RECORDED = np.load(tiny.REFERENCE / "rng.npz")


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize("seed", [0, 1, 42, 4294967301])
def test_draws_are_the_recorded_ones(source: str, seed: int) -> None:
    first, second = RECORDED[f"{source}/{seed}/first"], RECORDED[f"{source}/{seed}/second"]
    for picture in range(len(first)):
        draw = generator(source, seed + picture)
        np.testing.assert_allclose(draw.randn((4, 8, 8)).numpy(), first[picture], atol=1e-6)
        np.testing.assert_allclose(draw.randn((4, 8, 8)).numpy(), second[picture], atol=1e-6)


def test_philox_check_value() -> None:
    begins = torch.tensor([-0.92466259, -0.42534415, -2.6438457, 0.14518388])
    torch.testing.assert_close(PhiloxGenerator(0).randn((12,))[:4], begins)


def test_philox_is_normal() -> None:
    x = PhiloxGenerator(7).randn((100_000,))
    assert abs(float(x.mean())) < 0.02
    assert abs(float(x.std()) - 1) < 0.02
    assert torch.isfinite(x).all()


SHAPE = (4, 8, 8)
SEEDS = [0, 1, 42, 4294967301]


def gap(mine: torch.Tensor, recorded: str) -> float:
    return float(np.abs(mine.numpy() - RECORDED[recorded][0]).max())


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize("seed", SEEDS)
def test_variations_are_the_recorded_ones(source: str, seed: int) -> None:
    noise = PictureNoise(source, seed, subseed=7, subseed_strength=0.3)
    assert gap(noise.first(SHAPE), f"{source}/{seed}/var0.3") < 1e-5
    assert gap(noise.next(SHAPE), f"{source}/{seed}/var0.3_second") < 1e-6


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize("seed", SEEDS)
def test_noise_of_another_size_is_the_recorded_one(source: str, seed: int) -> None:
    noise = PictureNoise(source, seed, resize_from=(96, 48))
    assert gap(noise.first(SHAPE), f"{source}/{seed}/resize48x96") < 1e-6


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ensd_is_the_recorded_one(source: str, seed: int) -> None:
    noise = PictureNoise(source, seed, ensd=31337)
    assert gap(noise.first(SHAPE), f"{source}/{seed}/first") < 1e-6
    assert gap(noise.next(SHAPE), f"{source}/{seed}/ensd_second") < 1e-6


def test_ends_of_a_variation_are_the_two_noises() -> None:
    one, other = PictureNoise("CPU", 5).first(SHAPE), PictureNoise("CPU", 9).first(SHAPE)
    torch.testing.assert_close(
        PictureNoise("CPU", 5, subseed=9, subseed_strength=1.0).first(SHAPE), other, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        PictureNoise("CPU", 5, subseed=9, subseed_strength=1e-4).first(SHAPE), one, atol=1e-3, rtol=0
    )


def test_noises_that_are_nearly_one_are_mixed_in_a_line() -> None:
    noise = PictureNoise("CPU", 5).first(SHAPE)
    torch.testing.assert_close(slerp(0.25, noise, noise * 2), noise * 1.75)


def test_a_larger_noise_is_cropped_in_the_middle() -> None:
    large = PictureNoise("CPU", 5).first((4, 16, 12))
    assert torch.equal(PictureNoise("CPU", 5, resize_from=(96, 128)).first(SHAPE), large[:, 4:12, 2:10])


def test_a_smaller_noise_lies_in_the_middle_of_the_pictures_own() -> None:
    mixed, small, own = (PictureNoise("CPU", 5, resize_from=size).first(shape) for size, shape in RESIZED)
    assert torch.equal(mixed[:, 2:6, 3:5], small)
    assert torch.equal(mixed[:, :2], own[:, :2])


RESIZED = [((16, 32), SHAPE), ((0, 0), (4, 4, 2)), ((0, 0), SHAPE)]


def test_ensd_may_be_negative_and_large() -> None:
    for ensd in (-100, -(2**62), 2**62):
        noise = PictureNoise("CPU", 5, ensd=ensd)
        noise.first(SHAPE)
        assert torch.isfinite(noise.next(SHAPE)).all()


LEVELS = [14.6146, 9.0, 3.3, 1.0, 0.31, 0.0292]


@pytest.mark.filterwarnings("ignore:Should have tb")
def test_the_brownian_path_is_torchsdes() -> None:
    """As k-diffusion asks it: down the whole way, steps and parts of steps in turn."""
    low, high = torch.tensor(LEVELS[-1]), torch.tensor(LEVELS[0])
    tree = torchsde.BrownianTree(low, torch.zeros(SHAPE), high, entropy=42)
    mine = BrownianNoise("CPU", 42, SHAPE, float(low), float(high))
    for sigma, after in itertools.pairwise(LEVELS):
        for end in ((sigma * after) ** 0.5, after):
            theirs = -tree(torch.tensor(end), torch.tensor(sigma)) / (sigma - end) ** 0.5
            torch.testing.assert_close(mine(torch.tensor(sigma), torch.tensor(end)), theirs, atol=2e-5, rtol=0)


@pytest.mark.parametrize("source", ["CPU", "NV"])
def test_the_brownian_path_does_not_depend_on_the_questions(source: str) -> None:
    sigmas = torch.tensor(LEVELS)
    fine, coarse = (BrownianNoise(source, 3, SHAPE, LEVELS[-1], LEVELS[0]) for _ in range(2))
    for level in (12.0, 7.0, 0.5, 0.1):
        fine(torch.tensor(13.0), torch.tensor(level))
    pairs = list(itertools.pairwise(sigmas))
    forward = [fine(*pair) for pair in pairs]
    backward = [coarse(*pair) for pair in reversed(pairs)]
    for one, other in zip(forward, reversed(backward), strict=True):
        assert torch.equal(one, other)


def test_brownian_steps_are_standard_normal_and_add_up() -> None:
    noise = BrownianNoise("NV", 3, (4, 64, 64), 0.03, 14.6)
    whole, first, second = (noise(torch.tensor(a), torch.tensor(b)) for a, b in ((9.0, 1.0), (9.0, 4.0), (4.0, 1.0)))
    assert abs(float(first.mean())) < 0.03
    assert abs(float(first.std()) - 1) < 0.03
    assert abs(float((first * second).mean())) < 0.03
    torch.testing.assert_close(whole * 8**0.5, first * 5**0.5 + second * 3**0.5, atol=1e-5, rtol=1e-5)


def test_brownian_times_outside_are_the_ends() -> None:
    noise = BrownianNoise("CPU", 3, SHAPE, 0.03, 14.6)
    assert torch.equal(noise(torch.tensor(3.0), torch.tensor(3.0)), torch.zeros(SHAPE))
    step = noise(torch.tensor(14.7), torch.tensor(1.0)) * 13.7**0.5
    torch.testing.assert_close(step, noise(torch.tensor(14.6), torch.tensor(1.0)) * 13.6**0.5)


def test_the_path_of_a_picture_is_that_of_its_seed() -> None:
    sigmas = torch.tensor([*LEVELS, 0.0])
    asked = torch.tensor(9.0), torch.tensor(1.0)
    noises = [PictureNoise("CPU", seed).brownian(SHAPE, sigmas, shared=shared)(*asked) for seed, shared in PATHS]
    assert torch.equal(noises[0], BrownianNoise("CPU", 5, SHAPE, LEVELS[-1], LEVELS[0])(*asked))
    assert len({noise.numpy().tobytes() for noise in noises}) == len(PATHS)


PATHS = [(5, True), (6, True), (5, False), (6, False)]
