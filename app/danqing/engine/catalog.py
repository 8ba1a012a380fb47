"""Samplers and schedules by the names that users know: one table each, in the order that menus show.

No torch here: the page, the API and the CLI read these tables. The functions behind the names are in `samplers` and
`schedules`; a test holds the two together. Names, aliases and options are the WebUI's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from danqing.errors import DanqingError
from danqing.plugins.loading import active
from danqing.request import CHOICE_AUTOMATIC, GenerateRequest


class Family(StrEnum):
    """What a sampler walks along."""

    SIGMA = "sigma"
    """k-diffusion's noise levels: the schedule is a choice."""
    TIMESTEP = "timestep"
    """DDPM timesteps at even distances: the schedule has no say."""


NO_ETA = frozenset({"Euler", "Heun", "LMS", "DPM2", "DPM++ 2M", "LCM", "Restart", "PLMS", "UniPC"})
"""Samplers that take no eta: the WebUI writes none for them (spec 9.4)."""


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
    takes_churn: bool = False
    """Whether `s_churn`, `s_tmin` and `s_tmax` reach it."""
    takes_noise: bool = False
    """Whether `s_noise` reaches it."""
    cfg_divisor: float = 1.0
    """What the CFG scale is divided by before guidance."""
    needs_uncond: bool = False
    """Whether it must see the unguided prediction, whatever the CFG scale."""

    @property
    def second_order(self) -> bool:
        """Whether prompt schedules and the refiner count its steps double."""
        return "second_order" in self.options

    @property
    def discards(self) -> bool:
        """Whether it leaves out the last but one sigma."""
        return "discard_next_to_last_sigma" in self.options

    @property
    def brownian(self) -> bool:
        """Whether its noise is a Brownian path over all sigmas."""
        return "brownian_noise" in self.options

    def total_calls(self, steps: int) -> int:
        """What prompt schedules, the refiner and early CFG divide by."""
        return steps * 2 if self.second_order else steps


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule of sigmas. `default_rho` -1 means that it has no rho."""

    name: str
    label: str
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    need_inner_model: bool = False


_SECOND = {"second_order": "True"}
_BROWNIAN = {"brownian_noise": "True"}
_DISCARD = {"discard_next_to_last_sigma": "True"}
_ENSD = {"uses_ensd": "True"}
_KARRAS = {"scheduler": "karras"}
_EXPONENTIAL = {"scheduler": "exponential"}

SAMPLERS: tuple[SamplerRow, ...] = (
    SamplerRow("DPM++ 2M", ("k_dpmpp_2m",), schedule="Karras", options=_KARRAS),
    SamplerRow(
        "DPM++ SDE",
        ("k_dpmpp_sde",),
        schedule="Karras",
        calls_per_step=2,
        options={**_KARRAS, **_SECOND, **_BROWNIAN},
        takes_noise=True,
    ),
    SamplerRow(
        "DPM++ 2M SDE",
        ("k_dpmpp_2m_sde",),
        schedule="Exponential",
        options={**_EXPONENTIAL, **_BROWNIAN},
        takes_noise=True,
    ),
    SamplerRow(
        "DPM++ 2M SDE Heun",
        ("k_dpmpp_2m_sde_heun",),
        schedule="Exponential",
        options={**_EXPONENTIAL, **_BROWNIAN, "solver_type": "heun"},
        takes_noise=True,
    ),
    SamplerRow(
        "DPM++ 2S a",
        ("k_dpmpp_2s_a",),
        schedule="Karras",
        calls_per_step=2,
        options={**_KARRAS, **_ENSD, **_SECOND},
        takes_noise=True,
    ),
    SamplerRow(
        "DPM++ 3M SDE",
        ("k_dpmpp_3m_sde",),
        schedule="Exponential",
        options={**_EXPONENTIAL, **_DISCARD, **_BROWNIAN},
        takes_noise=True,
    ),
    SamplerRow("Euler a", ("k_euler_a", "k_euler_ancestral"), options=_ENSD),
    SamplerRow("Euler", ("k_euler",), takes_churn=True, takes_noise=True),
    SamplerRow("LMS", ("k_lms",)),
    SamplerRow("Heun", ("k_heun",), calls_per_step=2, options=_SECOND, takes_churn=True, takes_noise=True),
    SamplerRow(
        "DPM2",
        ("k_dpm_2",),
        schedule="Karras",
        calls_per_step=2,
        options={**_KARRAS, **_DISCARD, **_SECOND},
        takes_churn=True,
        takes_noise=True,
    ),
    SamplerRow(
        "DPM2 a",
        ("k_dpm_2_a",),
        schedule="Karras",
        calls_per_step=2,
        options={**_KARRAS, **_DISCARD, **_ENSD, **_SECOND},
        takes_noise=True,
    ),
    SamplerRow("DPM fast", ("k_dpm_fast",), options=_ENSD, takes_noise=True),
    SamplerRow("DPM adaptive", ("k_dpm_ad",), options=_ENSD),
    SamplerRow("Restart", ("restart",), schedule="Karras", calls_per_step=2, options={**_KARRAS, **_SECOND}),
    SamplerRow("DDIM", ("ddim",), Family.TIMESTEP),
    SamplerRow("DDIM CFG++", ("ddim_cfgpp",), Family.TIMESTEP, cfg_divisor=12.5, needs_uncond=True),
    SamplerRow("PLMS", ("plms",), Family.TIMESTEP),
    SamplerRow("UniPC", ("unipc",), Family.TIMESTEP),
    SamplerRow("LCM", ("k_lcm",)),
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


def samplers() -> tuple[SamplerRow, ...]:
    """All samplers, those of plug-ins behind ours."""
    return SAMPLERS + tuple(
        SamplerRow(one.name, one.aliases, schedule=one.schedule, calls_per_step=one.calls)
        for one in active().samplers()
        if one.name not in _SAMPLERS_BY_NAME
    )


def sampler_names() -> list[str]:
    return [row.name for row in samplers()]


def schedule_labels() -> list[str]:
    return [row.label for row in SCHEDULES]


def sampler(name: str) -> SamplerRow:
    """The row of exactly this name.

    Raises:
        DanqingError: `unknown_sampler`.
    """
    row = _named(name)
    if row is None:
        raise DanqingError("unknown_sampler", name=name[:100], known=", ".join(sampler_names()))
    return row


def _named(name: str) -> SamplerRow | None:
    return _SAMPLERS_BY_NAME.get(name) or next((row for row in samplers() if row.name == name), None)


def find_sampler(name: str) -> SamplerRow:
    """The row whose name or alias this is, in any case, as scripts take it.

    Raises:
        DanqingError: `unknown_sampler`.
    """
    wanted = name.lower()
    for row in samplers():
        if wanted in (row.name.lower(), *row.aliases):
            return row
    return sampler(name)


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


def eta_of(request: GenerateRequest, row: SamplerRow) -> float:
    """The eta that a sampler is given: the request's, else the option's of its family."""
    if request.eta is not None:
        return request.eta
    return request.options.eta_ddim if row.family is Family.TIMESTEP else request.options.eta_ancestral


def cut_schedule(name: str) -> tuple[str, str]:
    """("DPM++ 2M", "Karras") of "DPM++ 2M Karras": a schedule's label, name or alias behind a space; "" for none."""
    for row in SCHEDULES:
        suffix = next((word for word in (row.label, row.name, *row.aliases) if name.endswith(" " + word)), None)
        if suffix is not None:
            return name[: -len(suffix) - 1], row.label
    return name, ""


def split_sampler(name: str, scheduler: str | None) -> tuple[str, str]:
    """The WebUI API's silent resolution: ("DPM++ 2M Karras", None) is ("DPM++ 2M", "Automatic").

    A schedule's label, name or alias behind a space is cut off the name and used where `scheduler` is empty; an unknown
    sampler becomes the first of the table; a schedule that is the sampler's own default, or unknown, is "Automatic".
    """
    name, found = cut_schedule(name)
    row_of = _named(name) or SAMPLERS[0]
    chosen = find_schedule(scheduler or found)
    if chosen is None or chosen.label == row_of.schedule:
        return row_of.name, CHOICE_AUTOMATIC
    return row_of.name, chosen.label


def resolved_schedule(sampler_name: str, scheduler: str) -> str:
    """Label of the schedule that a sampler walks when `scheduler` is asked for: "Automatic" is its own, if it has one.

    Raises:
        DanqingError: `unknown_sampler` or `unknown_scheduler`.
    """
    row = sampler(sampler_name)
    label = schedule(scheduler).label
    return row.schedule if label == CHOICE_AUTOMATIC and row.schedule else label


def used_schedule(request: GenerateRequest) -> str:
    """Label of the schedule that really makes the sigmas, as the infotext shows it."""
    return resolved_schedule(request.sampler, request.scheduler)
