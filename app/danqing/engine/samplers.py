"""The function behind each sampler of the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import torch

from danqing.engine import plugged
from danqing.engine.samplers_base import Course, Walk
from danqing.engine.samplers_dpm import dpm2, dpm2_ancestral, dpm_adaptive, dpm_fast
from danqing.engine.samplers_dpmpp import (
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2m_sde_heun,
    dpmpp_2s_ancestral,
    dpmpp_3m_sde,
    dpmpp_sde,
)
from danqing.engine.samplers_euler import euler, euler_ancestral, heun, lms, restart
from danqing.engine.samplers_lcm import lcm
from danqing.engine.samplers_timestep import ddim, ddim_cfgpp, plms
from danqing.engine.unipc import unipc

WALKS: dict[str, Callable[[torch.Tensor, Course], Walk]] = {
    "DPM++ 2M": dpmpp_2m,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2M SDE": dpmpp_2m_sde,
    "DPM++ 2M SDE Heun": dpmpp_2m_sde_heun,
    "DPM++ 2S a": dpmpp_2s_ancestral,
    "DPM++ 3M SDE": dpmpp_3m_sde,
    "Euler a": euler_ancestral,
    "Euler": euler,
    "LMS": lms,
    "Heun": heun,
    "DPM2": dpm2,
    "DPM2 a": dpm2_ancestral,
    "DPM fast": dpm_fast,
    "DPM adaptive": dpm_adaptive,
    "Restart": restart,
    "DDIM": ddim,
    "DDIM CFG++": ddim_cfgpp,
    "PLMS": plms,
    "UniPC": unipc,
    "LCM": lcm,
}


def walk_of(name: str, x: torch.Tensor, course: Course) -> Walk:
    """The walk of a sampler of the catalogue, a plug-in's where it is none of ours.

    Raises:
        DanqingError: `unknown_sampler`; `plugin_failed` while it walks.
    """
    if name in WALKS:
        return WALKS[name](x, course)
    walk: Walk = plugged.sampled(name, x, course)
    return walk
