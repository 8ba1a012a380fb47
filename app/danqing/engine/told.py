"""What a picture's infotext says beyond its ordered keys, in the order in which the WebUI comes upon it (spec 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from danqing.engine import catalog
from danqing.engine.catalog import Family, SamplerRow
from danqing.engine.scripts.table import FILLS
from danqing.prompt.schedule import Timeline, scheduled
from danqing.request import CHOICE_AUTOMATIC, ControlUnit, GenerateRequest, Hires, Inpaint, SoftInpainting

if TYPE_CHECKING:
    from danqing.engine.passes import Stage

Pairs = dict[str, str | int | float]

SOFT = {
    "power": "Soft inpainting schedule bias",
    "scale": "Soft inpainting preservation strength",
    "detail": "Soft inpainting transition contrast boost",
    "mask_influence": "Soft inpainting mask influence",
    "difference_threshold": "Soft inpainting difference threshold",
    "difference_contrast": "Soft inpainting difference contrast",
}


def of_request(request: GenerateRequest) -> Pairs:
    """What the request alone says: hires fix or inpainting, and the model's noise schedule."""
    found: Pairs = {}
    if request.kind == "txt2img" and request.hires is not None:
        found |= _hires(request, request.hires)
    if request.kind == "img2img" and request.inpaint is not None:
        found |= _inpaint(request.inpaint)
    if request.kind == "img2img" and request.options.initial_noise_multiplier != 1:
        found["Noise multiplier"] = request.options.initial_noise_multiplier
    for number, unit in enumerate(request.control):
        found[f"ControlNet {number}"] = control(unit)
    if request.options.sd_noise_schedule != "Default":
        found["Noise Schedule"] = request.options.sd_noise_schedule
    if request.options.use_downcasted_alpha_bar:
        found["Downcast alphas_cumprod"] = "True"
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
    if hires.sampler and hires.sampler != request.sampler:
        found["Hires sampler"] = hires.sampler
    if hires.prompt and hires.prompt != request.prompt:
        found["Hires prompt"] = hires.prompt
    if hires.negative_prompt and hires.negative_prompt != request.negative_prompt:
        found["Hires negative prompt"] = hires.negative_prompt
    first = catalog.used_schedule(request)
    second = catalog.used_schedule(
        request.model_copy(
            update={"sampler": hires.sampler or request.sampler, "scheduler": hires.scheduler or request.scheduler}
        )
    )
    if second not in (first, CHOICE_AUTOMATIC):
        found["Hires schedule type"] = second
    if hires.resize_x or hires.resize_y:
        found["Hires resize"] = f"{hires.resize_x}x{hires.resize_y}"
    else:
        found["Hires upscale"] = hires.scale
    if hires.steps:
        found["Hires steps"] = hires.steps
    found["Hires upscaler"] = hires.upscaler
    return found


def _inpaint(inpaint: Inpaint) -> Pairs:
    found: Pairs = {}
    if inpaint.soft is not None:
        found |= soft(inpaint.soft)
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


def of_prompts(request: GenerateRequest, stage: Stage, steps: int) -> Pairs:
    """What the prompts' encoding says."""
    found: Pairs = {}
    texts = (stage.prompt, stage.negative_prompt)
    if request.options.use_old_scheduling and any(_differs(text, steps) for text in texts):
        found["Old prompt editing timelines"] = "True"
    return found


def _differs(text: str, steps: int) -> bool:
    return scheduled(text, Timeline(steps, None, True)) != scheduled(text, Timeline(steps, None, False))


def of_sampling(request: GenerateRequest, stage: Stage) -> Pairs:
    """What the schedule and the sampler say."""
    options, row, found = request.options, catalog.sampler(stage.sampler), Pairs()
    if options.always_discard_next_to_last_sigma and not row.discards:
        found["Discard penultimate sigma"] = "True"
    if row.family is Family.SIGMA and catalog.resolved_schedule(stage.sampler, stage.scheduler) != "Automatic":
        for label, value in (("min sigma", options.sigma_min), ("max sigma", options.sigma_max), ("rho", options.rho)):
            if value:
                found[f"Schedule {label}"] = value
    if row.family is Family.SIGMA and catalog.resolved_schedule(stage.sampler, stage.scheduler) == "Beta":
        found["Beta schedule alpha"], found["Beta schedule beta"] = options.beta_dist_alpha, options.beta_dist_beta
    if row.family is Family.SIGMA and options.sgm_noise_multiplier and stage.start is None:
        found["SGM noise multiplier"] = "True"
    found |= _churn(request, row)
    if options.img2img_extra_noise and stage.start is not None:
        found["Extra noise"] = options.img2img_extra_noise
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
