from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from danqing.engine import catalog, passes
from danqing.engine.calls import Track
from danqing.engine.hires import second_stage
from danqing.engine.image_to_image import Canvas, _masked
from danqing.engine.noise import PictureNoise
from danqing.engine.passes import Scene
from danqing.engine.sampling import (
    ModelView,
    Prediction,
    SampleSpec,
    calls_of,
    mask_blend,
    prompt_steps,
    sample,
    steps_of,
)
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.options import DrawOptions
from danqing.request import GenerateRequest, Hires, Inpaint

from .replay import Replay, Unet, cases, run, tiny_unet

RELATIVE = 2e-4
"""Largest relative distance of latents, as the project promises; measured here: DPM adaptive 3e-5, the others below 5e-6."""
SHAPE = (4, 8, 8)
SIGMAS = ModelSigmas(linear_alphas())
STUDIO: Any = None
PLAIN = torch.linspace(-1, 1, 256).reshape(SHAPE)


@pytest.fixture(scope="module")
def unet(tiny_data: Path) -> Unet:
    return tiny_unet(tiny_data)


@pytest.mark.parametrize("path", cases(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_latents_are_the_recorded_ones(unet: Unet, path: Path) -> None:
    assert Replay(path).difference(unet) < RELATIVE


def test_every_sampler_and_schedule_has_a_case() -> None:
    replays = [Replay(path) for path in cases()]
    assert {replay.sampler for replay in replays} == set(catalog.sampler_names())
    assert {replay.resolved for replay in replays} >= set(catalog.schedule_labels()) - {"Uniform"}


class Gaussian:
    """A network that knows the one picture `PLAIN` with Gaussian doubt: what it says can be worked out by hand."""

    def __init__(self, prediction: str = "epsilon", doubt: float = 0.5, sigmas: ModelSigmas = SIGMAS) -> None:
        self.prediction, self.doubt, self.sigmas = prediction, doubt, sigmas
        self.calls: list[tuple[float, float, int, int]] = []
        self.inputs: list[torch.Tensor] = []

    def __call__(
        self, x: torch.Tensor, t: float, sigma: float, call: int, total: int
    ) -> Generator[Any, Any, Prediction]:
        self.calls.append((t, sigma, call, total))
        self.inputs.append(x)
        noise = float(self.sigmas.to_sigma(torch.tensor([t]).clamp(0, 999)))
        root = (noise**2 + 1) ** 0.5
        clean = (x * root * self.doubt**2 + PLAIN * noise**2) / (self.doubt**2 + noise**2)
        eps = (x * root - clean) / noise
        out = eps / root - clean * noise / root if self.prediction == "v" else eps
        return Prediction(out, out)
        yield


def spec_of(**fields: Any) -> SampleSpec:
    base: dict[str, Any] = {
        "sampler": "Euler",
        "schedule": "Automatic",
        "steps": 8,
        "view": ModelView(SIGMAS),
        "shape": SHAPE,
    }
    return SampleSpec(**{**base, **fields})


def drawn(spec: SampleSpec, network: Gaussian | None = None, seed: int = 1, track: Track | None = None) -> torch.Tensor:
    return run(sample(spec, network or Gaussian(), PictureNoise("CPU", seed), track or Track(steps=999)))


SIGMA_SAMPLERS = [row.name for row in catalog.SAMPLERS if row.family is catalog.Family.SIGMA]


@pytest.mark.parametrize("name", [name for name in catalog.sampler_names() if name != "LCM"])
def test_v_and_epsilon_are_two_words_for_one_thing(name: str) -> None:
    steps = drawn(spec_of(sampler=name))
    view = ModelView(SIGMAS, "v")
    torch.testing.assert_close(drawn(spec_of(sampler=name, view=view), Gaussian("v")), steps, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", catalog.sampler_names())
def test_calls_are_counted_and_foretold(name: str) -> None:
    for fields in ({}, {"start_latent": PLAIN, "denoising": 0.5}, {"start_latent": PLAIN, "denoising": 0.05}):
        spec, network, track = spec_of(sampler=name, **fields), Gaussian(), Track(steps=999)
        drawn(spec, network, track=track)
        assert [call for _, _, call, _ in network.calls] == list(range(track.step))
        if name != "DPM adaptive":
            assert calls_of(spec) == track.step


@pytest.mark.parametrize("name", catalog.sampler_names())
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_no_number_of_steps_breaks_a_sampler(name: str, steps: int) -> None:
    for fields in ({}, {"start_latent": PLAIN, "denoising": 1.0}, {"start_latent": PLAIN, "denoising": 0.0}):
        assert torch.isfinite(drawn(spec_of(sampler=name, steps=steps, **fields))).all()


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({}, (20, 20)),
        ({"start_latent": PLAIN, "denoising": 0.75}, (20, 16)),
        ({"start_latent": PLAIN, "denoising": 0.0}, (20, 1)),
        ({"start_latent": PLAIN, "denoising": 1.0}, (20, 20)),
        ({"start_latent": PLAIN, "denoising": 0.4, "steps_given": True}, (50, 20)),
        ({"start_latent": PLAIN, "denoising": 1.0, "steps_given": True}, (20, 20)),
        ({"start_latent": PLAIN, "denoising": 0.0, "steps_given": True}, (0, 20)),
    ],
)
def test_steps_of_image_to_image(fields: dict[str, Any], steps: tuple[int, int]) -> None:
    assert steps_of(spec_of(steps=20, **fields)) == steps


def test_second_order_counts_double_for_prompts_and_shares() -> None:
    network = Gaussian()
    drawn(spec_of(sampler="Heun"), network)
    assert {total for _, _, _, total in network.calls} == {16}
    assert prompt_steps(spec_of(sampler="Heun")) == 16
    assert prompt_steps(spec_of(start_latent=PLAIN, denoising=0.3)) == 8


def test_a_second_pass_of_strength_0_changes_nothing() -> None:
    for name in catalog.sampler_names():
        spec = spec_of(sampler=name, start_latent=PLAIN, denoising=0.0, steps_given=True)
        assert drawn(spec) is PLAIN
        assert calls_of(spec) == 0


@pytest.mark.parametrize("name", catalog.sampler_names())
def test_less_strength_keeps_more_of_the_picture(name: str) -> None:
    start = torch.full(SHAPE, 3.0)
    gaps = [
        float((drawn(spec_of(sampler=name, steps=20, start_latent=start, denoising=d)) - start).norm())
        for d in (0.1, 0.4, 0.9)
    ]
    assert gaps == sorted(gaps)


@pytest.mark.parametrize("name", catalog.sampler_names())
def test_outside_the_mask_the_picture_stays(name: str) -> None:
    repaint = torch.zeros(1, 8, 8)
    repaint[:, :, 4:] = 1
    kept = torch.full(SHAPE, 5.0)
    spec = spec_of(sampler=name, start_latent=kept, denoising=0.9, blend=mask_blend(repaint, kept))
    latent = drawn(spec)
    assert torch.equal(latent[:, :, :4], kept[:, :, :4])
    assert (latent[:, :, 4:] - 5).abs().min() > 0.5


def test_masks_blend_the_estimate_or_the_input() -> None:
    """k-diffusion's samplers hold the estimate to the picture, those along timesteps what the network sees."""
    kept = torch.full(SHAPE, 5.0)
    nothing = mask_blend(torch.zeros(1, 8, 8), kept)
    network, track = Gaussian(), Track(steps=99)
    drawn(spec_of(start_latent=kept, denoising=0.9, blend=nothing), network, track=track)
    assert not torch.equal(network.inputs[0], kept)
    assert track.denoised is not None
    assert torch.equal(track.denoised, kept)
    drawn(spec_of(sampler="DDIM", start_latent=kept, denoising=0.9, blend=nothing), network := Gaussian())
    assert all(torch.equal(x, kept) for x in network.inputs)


def test_a_blend_is_told_the_noise_and_the_end() -> None:
    told: list[float | None] = []

    def blend(latent: torch.Tensor, sigma: float | None) -> torch.Tensor:
        told.append(sigma)
        return latent

    network = Gaussian()
    drawn(spec_of(start_latent=PLAIN, denoising=0.5, blend=blend), network)
    assert told == [*(sigma for _, sigma, _, _ in network.calls), None]


@pytest.mark.parametrize("flag", ["interrupted", "skipped"])
@pytest.mark.parametrize("name", catalog.sampler_names())
def test_stopped_it_gives_its_last_estimate(name: str, flag: str) -> None:
    track = Track(steps=99)
    network = Gaussian()

    def predict(*question: Any) -> Generator[Any, Any, Prediction]:
        if len(network.calls) == 2:
            setattr(track, flag, True)
        return (yield from network(*question))

    latent = run(sample(spec_of(sampler=name), predict, PictureNoise("CPU", 1), track))
    assert latent is track.denoised
    assert len(network.calls) == 3


def test_a_network_that_is_replaced_is_read_as_what_it_is() -> None:
    """A refiner may predict v where the base predicts noise."""
    view = ModelView(SIGMAS)
    networks = Gaussian(), Gaussian("v")

    def predict(x: torch.Tensor, t: float, sigma: float, call: int, total: int) -> Generator[Any, Any, Prediction]:
        view.prediction = "v" if call >= 4 else "epsilon"
        return (yield from networks[call >= 4](x, t, sigma, call, total))

    latent = run(sample(spec_of(view=view), predict, PictureNoise("CPU", 1), Track(steps=99)))
    torch.testing.assert_close(latent, drawn(spec_of()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"eta": 0.3, "sampler": "Euler a"}, {}),
        ({"eta": 0.5, "sampler": "DDIM"}, {}),
        ({"s_churn": 10.0}, {}),
        ({"s_churn": 10.0, "s_noise": 1.1}, {}),
        ({"s_churn": 10.0, "s_tmin": 1.0}, {}),
        ({"s_churn": 10.0, "s_tmax": 1.0}, {}),
        ({"s_noise": 0.8, "sampler": "DPM++ SDE"}, {}),
        ({}, {"sgm_noise_multiplier": True}),
        ({}, {"enable_quantization": True}),
        ({}, {"always_discard_next_to_last_sigma": True}),
        ({"sampler": "DDIM"}, {"always_discard_next_to_last_sigma": True}),
        ({}, {"sd_noise_schedule": "Zero Terminal SNR"}),
        ({"sampler": "DDIM"}, {"sd_noise_schedule": "Zero Terminal SNR"}),
        ({}, {"use_downcasted_alpha_bar": True}),
        ({"schedule": "Karras"}, {"sigma_min": 0.2}),
        ({"schedule": "Karras"}, {"sigma_max": 9.0}),
        ({"schedule": "Karras"}, {"rho": 3.0}),
        ({"schedule": "Karras"}, {"use_old_karras_scheduler_sigmas": True}),
        ({"schedule": "Beta"}, {"beta_dist_alpha": 0.9}),
        ({"schedule": "Beta"}, {"beta_dist_beta": 0.9}),
        ({"sampler": "UniPC"}, {"uni_pc_variant": "bh2"}),
        ({"sampler": "UniPC"}, {"uni_pc_variant": "vary_coeff"}),
        ({"sampler": "UniPC"}, {"uni_pc_skip_type": "time_quadratic"}),
        ({"sampler": "UniPC"}, {"uni_pc_order": 2}),
        ({"sampler": "UniPC"}, {"uni_pc_lower_order_final": False}),
        ({"sampler": "DPM++ SDE"}, {"no_dpmpp_sde_batch_determinism": True}),
        ({"start_latent": PLAIN, "denoising": 0.5}, {"img2img_extra_noise": 0.5}),
        ({"start_latent": PLAIN, "denoising": 0.5, "sampler": "DDIM"}, {"img2img_extra_noise": 0.5}),
        ({"start_latent": PLAIN, "denoising": 0.5, "noise_multiplier": 0.5}, {}),
    ],
)
def test_every_parameter_matters(fields: dict[str, Any], options: dict[str, Any]) -> None:
    changed = {"eta", "s_churn", "s_noise", "s_tmin", "s_tmax", "noise_multiplier"}
    without = {key: value for key, value in fields.items() if key not in changed}
    if "s_tmin" in fields or "s_tmax" in fields or fields.get("s_noise") == 1.1:
        without["s_churn"] = fields["s_churn"]
    plain, other = drawn(spec_of(**without)), drawn(spec_of(**fields, options=DrawOptions(**options)))
    assert torch.isfinite(other).all()
    assert (plain - other).abs().max() > 1e-4


def test_parameters_that_a_sampler_does_not_take_do_nothing() -> None:
    for name in ("LMS", "DPM++ 2M", "Euler a", "UniPC", "Restart"):
        plain, other = (drawn(spec_of(sampler=name, s_churn=churn, s_noise=churn)) for churn in (None, 1.05))
        assert torch.equal(plain, other)
    assert torch.equal(drawn(spec_of(eta=0.5)), drawn(spec_of()))


@pytest.mark.parametrize("name", catalog.sampler_names())
def test_company_has_no_say(name: str) -> None:
    """Two pictures walked in turns are the two pictures walked alone; every seed is another picture."""
    alone = [drawn(spec_of(sampler=name, eta=1.0 if "DDIM" in name else None), seed=seed) for seed in (1, 2)]
    found: list[torch.Tensor | None] = [None, None]
    walks = []
    for seed in (1, 2):

        def predict(*question: Any) -> Generator[Any, Any, Prediction]:
            yield "step"
            return (yield from Gaussian()(*question))

        spec = spec_of(sampler=name, eta=1.0 if "DDIM" in name else None)
        walks.append(sample(spec, predict, PictureNoise("CPU", seed), Track(steps=99)))
    while None in found:
        for index, walk in enumerate(walks):
            try:
                next(walk)
            except StopIteration as stop:
                found[index] = stop.value if found[index] is None else found[index]
    for mine, theirs in zip(found, alone, strict=True):
        assert mine is not None
        assert torch.equal(mine, theirs)
    assert not torch.equal(alone[0], alone[1])


def test_eta_is_an_option_of_each_family() -> None:
    """The second pass' sampler is of another family: the first one's eta is none of its own."""
    hires = Hires(sampler="DDIM")
    options = DrawOptions(eta_ancestral=0.5)
    request = GenerateRequest(sampler="Euler a", denoising_strength=0.5, hires=hires, options=options)
    view = ModelView(SIGMAS)
    assert passes.spec_of(request, passes.first_stage(request), view).eta == 0.5
    assert passes.spec_of(request, second_stage(request, hires), view).eta == 0.0
    own = request.model_copy(update={"eta": 0.25})
    assert passes.spec_of(own, second_stage(own, hires), view).eta == 0.25


def test_every_batch_is_filled_with_the_first_ones_noise() -> None:
    """The WebUI makes the latents to begin from once for a job, with the seeds of its first batch."""
    inpaint = Inpaint(mask="", fill=2)
    request = GenerateRequest(kind="img2img", seed=7, batch_size=2, n_iter=2, inpaint=inpaint)
    canvas = Canvas(Image.new("RGB", (64, 64)), latent_mask=Image.new("L", (64, 64), 255))
    drawn = [_masked(Scene(request, index, STUDIO, Track(1)), canvas, torch.zeros(SHAPE))[0] for index in range(4)]
    for index, seed in enumerate((7, 8, 7, 8)):
        assert torch.equal(drawn[index], PictureNoise("GPU", seed).first(SHAPE))
