"""What a picture's infotext says beyond its ordered keys, in the order in which the WebUI comes upon it (spec 7.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from danqing.engine import catalog
from danqing.engine.catalog import Family, SamplerRow
from danqing.engine.scripts.table import FILLS
from danqing.prompt.schedule import Timeline, scheduled
from danqing.request import CHOICE_AUTOMATIC, ControlUnit, GenerateRequest, Hires, Inpaint, SoftInpainting

if TYPE_CHECKING:
    from danqing.engine.passes import Stage

Pairs = dict[str, str | int | float]

LORA_HASHES = "Lora hashes"

SOFT = {
    "power": "Soft inpainting schedule bias",
    "scale": "Soft inpainting preservation strength",
    "detail": "Soft inpainting transition contrast boost",
    "mask_influence": "Soft inpainting mask influence",
    "difference_threshold": "Soft inpainting difference threshold",
    "difference_contrast": "Soft inpainting difference contrast",
}


def of_request(request: GenerateRequest) -> Pairs:
    """What the request alone says: always-on scripts, then hires fix or inpainting."""
    found: Pairs = {}
    inpaint = request.inpaint if request.kind == "img2img" else None
    if inpaint is not None and inpaint.soft is not None:
        found |= soft(inpaint.soft)
    for number, unit in enumerate(request.control):
        found[f"ControlNet {number}"] = control(unit)
    if request.kind == "txt2img" and request.hires is not None:
        found |= _hires(request, request.hires)
    if inpaint is not None:
        found |= _inpaint(inpaint)
    return found


def control(unit: ControlUnit) -> str:
    """A control unit in one value (spec 5.1)."""
    from danqing.control import catalog as modules

    settings = modules.settings_of(modules.find(unit.module), unit.processor_res, unit.threshold_a, unit.threshold_b)
    rows = {
        "Module": unit.module,
        "Model": unit.model,
        "Weight": unit.weight,
        "Resize Mode": unit.resize_mode,
        "Processor Res": settings.resolution,
        "Threshold A": settings.a,
        "Threshold B": settings.b,
        "Guidance Start": unit.guidance_start,
        "Guidance End": unit.guidance_end,
        "Pixel Perfect": unit.pixel_perfect,
        "Control Mode": unit.control_mode,
    }
    return ", ".join(f"{key}: {value}" for key, value in rows.items())


def _hires(request: GenerateRequest, hires: Hires) -> Pairs:
    found: Pairs = {}
    if hires.checkpoint:
        found["Hires checkpoint"] = hires.checkpoint
    sampler = hires.sampler or request.sampler
    if sampler != request.sampler:
        found["Hires sampler"] = hires.sampler
    if hires.prompt and hires.prompt != request.prompt:
        found["Hires prompt"] = hires.prompt
    if hires.negative_prompt and hires.negative_prompt != request.negative_prompt:
        found["Hires negative prompt"] = hires.negative_prompt
    first = _walked(request.sampler, request.scheduler)
    second = _walked(sampler, hires.scheduler or request.scheduler)
    if second not in (first, CHOICE_AUTOMATIC):
        found["Hires schedule type"] = second
    if hires.resize_x or hires.resize_y:
        found["Hires resize"] = f"{hires.resize_x}x{hires.resize_y}"
    else:
        found["Hires upscale"] = hires.scale
    if hires.steps:
        found["Hires steps"] = hires.steps
    if hires.upscaler:
        found["Hires upscaler"] = hires.upscaler
    return found


def _walked(sampler: str, scheduler: str) -> str:
    """The schedule of sigmas that a pass walks; along timesteps none has a say."""
    label = catalog.resolved_schedule(sampler, scheduler)
    return label if catalog.sampler(sampler).family is Family.SIGMA else CHOICE_AUTOMATIC


def _inpaint(inpaint: Inpaint) -> Pairs:
    found: Pairs = {}
    if inpaint.invert:
        found["Mask mode"] = "Inpaint not masked"
    if inpaint.blur_x == inpaint.blur_y and inpaint.blur_x > 0:
        found["Mask blur"] = inpaint.blur_x
    if inpaint.only_masked:
        found["Inpaint area"] = "Only masked"
        found["Masked area padding"] = inpaint.padding
    if FILLS[inpaint.fill] != "original":
        found["Masked content"] = FILLS[inpaint.fill]
    return found


def soft(values: SoftInpainting) -> Pairs:
    """Numbers print as the WebUI's page holds them: whole ones without a point."""
    found: Pairs = {"Soft inpainting enabled": "True"}
    for name, label in SOFT.items():
        value = float(getattr(values, name))
        found[label] = int(value) if value == int(value) else value
    return found


def with_lora_hashes(before: Mapping[str, str | int | float], found: Iterable[tuple[str, str]]) -> Pairs:
    """The pairs of a pass' networks; a second pass adds its own to those that the first one named."""
    pairs: Pairs = dict(found)
    known = before.get(LORA_HASHES)
    if known is not None and LORA_HASHES in pairs:
        rows = [row.partition(": ")[::2] for text in (known, pairs[LORA_HASHES]) for row in str(text).split(", ")]
        pairs[LORA_HASHES] = ", ".join(f"{name}: {digits}" for name, digits in dict(rows).items())
    return pairs


def of_prompts(request: GenerateRequest, stage: Stage, steps: int, base_steps: int | None = None) -> Pairs:
    """What the prompts' encoding says.

    Args:
        steps: those that prompt schedules of this pass are made for; `base_steps`: of the first pass, for a hires pass.
    """
    old, new = (Timeline(steps, base_steps, is_old) for is_old in (True, False))
    texts = (stage.prompt, stage.negative_prompt)
    if request.options.use_old_scheduling and any(scheduled(text, old) != scheduled(text, new) for text in texts):
        return {"Old prompt editing timelines": "True"}
    return {}


def of_noise(request: GenerateRequest) -> Pairs:
    """What the model's noise schedule and the noise that a picture is given say."""
    options, found = request.options, Pairs()
    if options.use_downcasted_alpha_bar:
        found["Downcast alphas_cumprod"] = "True"
    if options.sd_noise_schedule != "Default":
        found["Noise Schedule"] = options.sd_noise_schedule
    if request.kind == "img2img" and options.initial_noise_multiplier != 1:
        found["Noise multiplier"] = options.initial_noise_multiplier
    return found


def of_sampling(request: GenerateRequest, stage: Stage) -> Pairs:
    """What the schedule and the sampler say."""
    options, row, found = request.options, catalog.sampler(stage.sampler), Pairs()
    if options.always_discard_next_to_last_sigma and not row.discards:
        found["Discard penultimate sigma"] = "True"
    found |= _schedule(request, _walked(stage.sampler, stage.scheduler))
    if row.family is Family.SIGMA and options.sgm_noise_multiplier and stage.start is None:
        found["SGM noise multiplier"] = "True"
    if options.img2img_extra_noise and stage.start is not None:
        found["Extra noise"] = options.img2img_extra_noise
    timestep, eta = row.family is Family.TIMESTEP, catalog.eta_of(request, row)
    if row.name not in catalog.NO_ETA and eta != (0.0 if timestep else 1.0):
        found["Eta DDIM" if timestep else "Eta"] = eta
    return found | _churn(request, row)


def _schedule(request: GenerateRequest, label: str) -> Pairs:
    """The options that shape a named schedule; a rho only of one that has a rho, and another."""
    options, found = request.options, Pairs()
    if label == CHOICE_AUTOMATIC:
        return found
    usual = catalog.schedule(label).default_rho
    rho = options.rho if usual != -1 and options.rho != usual else 0.0
    for name, value in (("min sigma", options.sigma_min), ("max sigma", options.sigma_max), ("rho", rho)):
        if value:
            found[f"Schedule {name}"] = value
    if label == "Beta":
        found["Beta schedule alpha"], found["Beta schedule beta"] = options.beta_dist_alpha, options.beta_dist_beta
    return found


def _churn(request: GenerateRequest, row: SamplerRow) -> Pairs:
    """The parameters that the options have set; the request's own are not written (spec 23.4)."""
    options, found = request.options, Pairs()
    rows = (("s_churn", "Sigma churn"), ("s_tmin", "Sigma tmin"), ("s_tmax", "Sigma tmax"))
    for name, label in rows:
        if row.takes_churn and getattr(options, name):
            found[label] = getattr(options, name)
    if row.takes_noise and options.s_noise != 1:
        found["Sigma noise"] = options.s_noise
    return found
