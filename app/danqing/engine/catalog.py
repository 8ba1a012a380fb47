"""Samplers and schedules by the names that users know: one table each, in the order that menus show.

No torch here: the page, the API and the CLI read these tables. The functions behind the names are in `samplers` and
`schedules`; a test holds the two together. Names, aliases and options are the WebUI's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from danqing.errors import DanqingError
from danqing.request import CHOICE_AUTOMATIC, GenerateRequest


class Family(StrEnum):
    """What a sampler walks along."""

    SIGMA = "sigma"
    """k-diffusion's noise levels: the schedule is a choice."""
    TIMESTEP = "timestep"
    """DDPM timesteps at even distances: the schedule has no say."""


@dataclass(frozen=True, slots=True)
class SamplerRow:
    """A sampler. `calls_per_step` is how often a step asks the UNet; `options` are the strings that the API lists."""

    name: str
    aliases: tuple[str, ...]
    family: Family = Family.SIGMA
    schedule: str = ""
    """Label of its own default schedule; "" is the model's uniform sigmas."""
    calls_per_step: int = 1
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule of sigmas. `default_rho` -1 means that it has no rho."""

    name: str
    label: str
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    need_inner_model: bool = False


SAMPLERS: tuple[SamplerRow, ...] = (
    SamplerRow("DPM++ 2M", ("k_dpmpp_2m",), schedule="Karras", options={"scheduler": "karras"}),
    SamplerRow("Euler a", ("k_euler_a", "k_euler_ancestral"), options={"uses_ensd": "True"}),
    SamplerRow("Euler", ("k_euler",)),
    SamplerRow("LMS", ("k_lms",)),
    SamplerRow("Heun", ("k_heun",), calls_per_step=2, options={"second_order": "True"}),
    SamplerRow("DDIM", ("ddim",), Family.TIMESTEP),
    SamplerRow("UniPC", ("unipc",), Family.TIMESTEP),
)
"""The first is what an unknown name silently becomes at the WebUI's API."""

SCHEDULES: tuple[ScheduleRow, ...] = (
    ScheduleRow("automatic", CHOICE_AUTOMATIC),
    ScheduleRow("uniform", "Uniform", need_inner_model=True),
    ScheduleRow("karras", "Karras", default_rho=7.0),
    ScheduleRow("exponential", "Exponential"),
    ScheduleRow("polyexponential", "Polyexponential", default_rho=1.0),
    ScheduleRow("sgm_uniform", "SGM Uniform", ("SGMUniform",), need_inner_model=True),
    ScheduleRow("kl_optimal", "KL Optimal"),
    ScheduleRow("align_your_steps", "Align Your Steps"),
    ScheduleRow("simple", "Simple", need_inner_model=True),
    ScheduleRow("normal", "Normal", need_inner_model=True),
    ScheduleRow("ddim", "DDIM", need_inner_model=True),
    ScheduleRow("beta", "Beta", need_inner_model=True),
)

_SAMPLERS_BY_NAME = {row.name: row for row in SAMPLERS}


def sampler_names() -> list[str]:
    return [row.name for row in SAMPLERS]


def schedule_labels() -> list[str]:
    return [row.label for row in SCHEDULES]


def sampler(name: str) -> SamplerRow:
    """The row of exactly this name.

    Raises:
        DanqingError: `unknown_sampler`.
    """
    if name not in _SAMPLERS_BY_NAME:
        raise DanqingError("unknown_sampler", name=name[:100], known=", ".join(_SAMPLERS_BY_NAME))
    return _SAMPLERS_BY_NAME[name]


def find_schedule(name: str) -> ScheduleRow | None:
    """The row whose label, name or alias this is."""
    return next((row for row in SCHEDULES if name in (row.label, row.name, *row.aliases)), None)


def schedule(name: str) -> ScheduleRow:
    """The row whose label, name or alias this is.

    Raises:
        DanqingError: `unknown_scheduler`.
    """
    row = find_schedule(name)
    if row is None:
        raise DanqingError("unknown_scheduler", name=name[:100], known=", ".join(schedule_labels()))
    return row


def check_names(request: GenerateRequest) -> None:
    """Refuse names that are not in the tables.

    Raises:
        DanqingError: `unknown_sampler` or `unknown_scheduler`.
    """
    sampler(request.sampler)
    schedule(request.scheduler)


def split_sampler(name: str, scheduler: str | None) -> tuple[str, str]:
    """The WebUI API's silent resolution: ("DPM++ 2M Karras", None) is ("DPM++ 2M", "Automatic").

    A schedule's label, name or alias behind a space is cut off the name and used where `scheduler` is empty; an unknown
    sampler becomes the first of the table; a schedule that is the sampler's own default, or unknown, is "Automatic".
    """
    found = None
    for row in SCHEDULES:
        suffix = next((word for word in (row.label, row.name, *row.aliases) if name.endswith(" " + word)), None)
        if suffix is not None:
            name, found = name[: -len(suffix) - 1], row
            break
    row_of = _SAMPLERS_BY_NAME.get(name, SAMPLERS[0])
    chosen = find_schedule(scheduler) if scheduler else found
    if chosen is None or chosen.label == row_of.schedule:
        return row_of.name, CHOICE_AUTOMATIC
    return row_of.name, chosen.label


def used_schedule(request: GenerateRequest) -> str:
    """Label of the schedule that really makes the sigmas, as the infotext shows it."""
    row = sampler(request.sampler)
    label = schedule(request.scheduler).label
    if label == CHOICE_AUTOMATIC and row.schedule:
        return row.schedule
    return label
