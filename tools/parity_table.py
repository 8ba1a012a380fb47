"""Writes docs/parity.md and its Chinese sister: samplers by schedules, each with its difference to the reference.

Where a recording of the WebUI exists, the latents of the small checkpoint are compared with it. Every other pair is compared
with k-diffusion's own loop (for Restart and LCM: with the algorithm written out below) on a denoiser known in closed form, over
the WebUI's recorded sigmas. `pip install --no-deps --target DIR k-diffusion==0.1.1.post1 torchsde==0.2.6` brings the loops;
then `python tools/parity_table.py --k-diffusion DIR`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import itertools
import json
import math
import sys
import tempfile
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from danqing.engine import catalog  # noqa: E402
from danqing.engine.calls import Track  # noqa: E402
from danqing.engine.noise import PictureNoise  # noqa: E402
from danqing.engine.samplers_lcm import LcmSigmas  # noqa: E402
from danqing.engine.sampling import ModelView, Prediction, SampleSpec, sample  # noqa: E402
from danqing.engine.schedules import sigmas  # noqa: E402
from tests.engine import tiny  # noqa: E402
from tests.engine.replay import SIGMAS, Replay, cases, run, tiny_unet  # noqa: E402

STEPS, SHAPE, SEED = 11, (4, 16, 16), 5
RECORDED: dict[str, list[float]] = json.loads((tiny.REFERENCE / "schedules.json").read_text("utf-8"))["sigmas"]
LOOPS = {
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "DPM++ 3M SDE": "dpmpp_3m_sde",
    "Euler a": "euler_ancestral",
    "Euler": "euler",
    "LMS": "lms",
    "Heun": "heun",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "DPM fast": "dpm_fast",
    "DPM adaptive": "dpm_adaptive",
}
"""k-diffusion's function for each sampler that it has."""

MEAN = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def denoised(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A smooth denoiser that is no straight line: the posterior mean of N(MEAN, 1/4), bent a little."""
    return (x / 4 + MEAN * sigma**2) / (0.25 + sigma**2) + 0.2 * torch.sin(x / (1 + sigma))


def ours(sampler: str, schedule: str) -> torch.Tensor:
    """The latent that `sample` walks to."""

    def predict(x: torch.Tensor, t: float, sigma: float, _call: int, _total: int) -> Generator[Any, Any, Prediction]:
        level = torch.tensor(sigma)
        raw = x * (level**2 + 1).sqrt()
        return Prediction((raw - denoised(raw, level)) / level)
        yield

    spec = SampleSpec(sampler, schedule, STEPS, ModelView(SIGMAS), SHAPE)
    return run(sample(spec, predict, PictureNoise("CPU", SEED), Track(steps=9999)))


def theirs(sampler: str, schedule: str, loops: Any) -> torch.Tensor:
    """The latent that an independent loop walks to, from the same noise."""
    row = catalog.sampler(sampler)
    label = catalog.resolved_schedule(sampler, schedule)
    levels = torch.tensor(RECORDED[f"{label}/{STEPS + row.discards}"])
    if row.discards:
        levels = torch.cat([levels[:-2], levels[-1:]])
    if sampler == "LCM":
        levels = sigmas(label, LcmSigmas(SIGMAS), STEPS)
    noise = PictureNoise("CPU", SEED)
    x = noise.first(SHAPE) * levels[0]
    if sampler == "LCM":
        return consistency(x, levels, lambda: noise.next(SHAPE))
    if sampler == "Restart":
        sampler = "Heun"  # which it is below 20 steps
    loop = getattr(loops, f"sample_{LOOPS[sampler]}")
    rows = x[None]  # k-diffusion works on batches
    with mock.patch.object(torch, "randn_like", side_effect=lambda _x: noise.next(SHAPE)[None]):
        latent: torch.Tensor = loop(_of_batch, rows, disable=True, **arguments(sampler, loop, levels, loops, rows))[0]
    return latent


def _of_batch(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return denoised(x, sigma[0])


def arguments(sampler: str, loop: Any, levels: torch.Tensor, loops: Any, x: torch.Tensor) -> dict[str, Any]:
    """What the WebUI gives to k-diffusion's loop."""
    takes = inspect.signature(loop).parameters
    found: dict[str, Any] = {"sigmas": levels} if "sigmas" in takes else {}
    if "sigma_min" in takes:
        found |= {"sigma_min": SIGMAS.sigma_min, "sigma_max": SIGMAS.sigma_max}
    found |= {"n": STEPS} if "n" in takes else {}
    found |= {"eta": 1.0} if "eta" in takes else {}
    if catalog.sampler(sampler).brownian:
        ends = levels[levels > 0].min(), levels.max()
        found["noise_sampler"] = loops.BrownianTreeNoiseSampler(x, *ends, seed=SEED)
    return found | ({"solver_type": "heun"} if sampler.endswith("Heun") and "SDE" in sampler else {})


def consistency(x: torch.Tensor, levels: torch.Tensor, fresh: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Multistep consistency sampling, Luo et al. 2023, Algorithm 3, with boundary scalings of sigma_data 0.5 and 10 t."""
    ladder = SIGMAS.sigmas[19::20]
    for sigma, after in itertools.pairwise(levels):
        t = 10.0 * (20 * int((ladder.log() - sigma.log()).abs().argmin()) + 19)
        clean = denoised(x, sigma)
        x = clean * t / math.hypot(t, 0.5) + x * 0.25 / (t**2 + 0.25)
        if after > 0:
            x = x + after * fresh()
    return x


def loops_of(folder: Path) -> Any:
    """k-diffusion's sampling module, without the rest of the package and what that asks for."""
    package, utils, ode = (types.ModuleType(name) for name in ("k_diffusion", "k_diffusion.utils", "torchdiffeq"))
    package.__path__ = [str(folder / "k_diffusion")]
    utils.append_dims = lambda x, n: x[(..., *(None,) * (n - x.ndim))]  # type: ignore[attr-defined]
    ode.odeint = None  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules |= {module.__name__: module for module in (package, utils, ode)}
    sys.path.append(str(folder))
    return importlib.import_module("k_diffusion.sampling")


def relative(mine: torch.Tensor, other: torch.Tensor) -> float:
    return float((mine - other).norm() / other.norm())


def recorded() -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Differences to recordings: of plain pairs of sampler and schedule, and of every other case by its name."""
    plain: dict[tuple[str, str], float] = {}
    others: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(Path(folder))
        unet = tiny_unet(Path(folder))
        for path in cases():
            replay = Replay(path)
            difference = replay.difference(unet)
            if path.stem.startswith(("sampler_", "sched_")) and replay.sent["steps"] == 12:
                plain[replay.sampler, replay.schedule] = difference
            else:
                others[f"{path.parent.name}/{path.stem}" if path.parent.name == "img2img" else path.stem] = difference
    return plain, others


def shown(number: float) -> str:
    """One digit, rounded up."""
    if number == 0:
        return "0"
    power = math.floor(math.log10(number))
    digit = math.ceil(number / 10**power - 1e-9)
    return f"{digit}e{power}" if digit < 10 else f"1e{power + 1}"


def matrix(loops: Any, plain: dict[tuple[str, str], float], chinese: bool, worst: dict[str, float]) -> list[str]:
    labels = catalog.schedule_labels()
    head = ["采样方法" if chinese else "sampler", *labels]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in catalog.SAMPLERS:
        cells = []
        for label in labels:
            known = plain.get((row.name, label))
            if known is None and label == (row.schedule or "Uniform"):
                known = plain.get((row.name, "Automatic"))  # the same sigmas by another name
            if row.family is catalog.Family.TIMESTEP:
                known = plain[row.name, "Automatic"]
            if known is not None:
                cells.append(f"**{shown(known)}**")
                worst["recorded"] = max(worst.get("recorded", 0), known)
                continue
            gap = relative(ours(row.name, label), theirs(row.name, label, loops))
            worst["formula"] = max(worst.get("formula", 0), gap)
            cells.append(shown(gap))
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines


def other_cases(others: dict[str, float], chinese: bool) -> list[str]:
    head = ("用例", "差异") if chinese else ("case", "difference")
    return [
        f"| {' | '.join(head)} |",
        "|---|---|",
        *(f"| `{name}` | {shown(gap)} |" for name, gap in sorted(others.items())),
    ]


ENGLISH = """# Parity: samplers and schedules

[中文](parity.zh-CN.md)

Written by `tools/parity_table.py`. A number is the relative distance of final latents, ‖ours − reference‖ / ‖reference‖,
rounded up to one digit. The promise is 2e-4.

- **Bold**: measured against a recording of the WebUI v1.10.1 (a small SD 1.5-shaped checkpoint, 12 steps, CFG 7). The largest is
  {recorded}.
- Plain: no recording exists, so the pair is measured against an independent formula: k-diffusion's own loops (for Restart and
  LCM the published algorithm), over sigmas that the WebUI recorded (for LCM over our own), on a denoiser known in closed form,
  11 steps. The largest is {formula}.
- DDIM, DDIM CFG++, PLMS and UniPC walk along timesteps: the schedule has no say. Their number is one recording.

{matrix}

## Other recordings

Options, names, seeds, batches, image to image and v-prediction, by the samplers and the UNet alone, with the recorded
conditioning.

{others}

## Where we differ on purpose

- DPM++ 2M SDE, DPM++ 2M SDE Heun and DPM++ 3M SDE with a single step draw a picture; k-diffusion's loops raise an error there.
- LCM reads a v-prediction checkpoint as what it is; the WebUI takes v for noise.
- `no_dpmpp_sde_batch_determinism`: the WebUI draws one seed and one noise for a whole batch from a generator that everything
  shares. Here the seed is drawn from the picture's own, so that a picture is the same in any batch; a single picture is the
  WebUI's.
- `ddim_discretize` does nothing, as in the WebUI v1.10.1, whose samplers do not read it.
"""

CHINESE = """# 一致性：采样方法与调度类型

[English](parity.md)

由 `tools/parity_table.py` 生成。数字是最终潜变量的相对距离 ‖本项目 − 参考‖ / ‖参考‖，向上取一位有效数字。承诺值为 2e-4。

- **粗体**：与 WebUI v1.10.1 的录制结果比较（一个 SD 1.5 结构的小模型，12 步，CFG 7）。最大为 {recorded}。
- 普通字体：没有录制结果，与独立的公式比较：k-diffusion 自己的循环（Restart 与 LCM 用发表的算法），使用 WebUI 录制的 sigma
  （LCM 用本项目的），在一个有闭式解的去噪器上，11 步。最大为 {formula}。
- DDIM、DDIM CFG++、PLMS 和 UniPC 沿时间步前进，调度类型不起作用；它们的数字来自同一个录制结果。

{matrix}

## 其他录制结果

选项、名称、种子、批次、图生图与 v-prediction，仅由采样方法与 UNet 重放，使用录制的条件向量。

{others}

## 有意的不同

- DPM++ 2M SDE、DPM++ 2M SDE Heun 与 DPM++ 3M SDE 只有一步时也能出图；k-diffusion 的循环在此报错。
- LCM 按 v-prediction 模型的本义读取它；WebUI 把 v 当作噪声。
- `no_dpmpp_sde_batch_determinism`：WebUI 从大家共用的生成器为整批图片取一个种子和一份噪声。这里种子由每张图片自己的种子得出，
  因此图片在任何批次中都相同；单张图片与 WebUI 相同。
- `ddim_discretize` 不起作用，与 WebUI v1.10.1 一致：它的采样方法并不读取这个选项。
"""


def main() -> None:
    """Measure everything and write both pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--k-diffusion", type=Path, required=True, help="folder with the package k_diffusion in it")
    loops = loops_of(parser.parse_args().k_diffusion)
    torch.set_num_threads(1)
    plain, others = recorded()
    for name, text, chinese in (("parity.md", ENGLISH, False), ("parity.zh-CN.md", CHINESE, True)):
        worst: dict[str, float] = {}
        table = "\n".join(matrix(loops, plain, chinese, worst))
        filled = text.format(
            matrix=table,
            others="\n".join(other_cases(others, chinese)),
            **{key: shown(value) for key, value in worst.items()},
        )
        (ROOT / "docs" / name).write_text(filled, "utf-8")


if __name__ == "__main__":
    main()
