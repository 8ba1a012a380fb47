"""Recorded cases drawn again by the samplers and the UNet alone, with the recorded conditioning."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from danqing.engine import catalog
from danqing.engine.calls import Track
from danqing.engine.noise import PictureNoise
from danqing.engine.sampling import ModelView, Prediction, SampleSpec, calls_of, sample
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.options import DrawOptions

from . import tiny

Unet = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(x, t, context), rows first, to the network's output."""

SIGMAS = ModelSigmas(linear_alphas())


def cases() -> list[Path]:
    """Recordings that show samplers, schedules and noise, each once."""
    found = {}
    for path in sorted(tiny.REFERENCE.rglob("*.json")):
        if path.parent.parent.name == "sampling" or path.name.startswith(PREFIXES):
            found[path.parent.name == "img2img", path.stem] = path
    return list(found.values())


PREFIXES = ("sampler_", "sched_", "steps1", "s_batch2_eulera", "o_rng_nv")


def run(walk: Generator[Any, Any, torch.Tensor]) -> torch.Tensor:
    """The result of a walk that asks the engine for nothing."""
    try:
        next(walk)
    except StopIteration as stop:
        latent: torch.Tensor = stop.value
        return latent
    raise AssertionError("the walk asked for something")


class Replay:
    """One recorded case."""

    def __init__(self, path: Path) -> None:
        self.sent: dict[str, Any] = json.loads(path.read_text("utf-8"))["request"]
        self.options: dict[str, Any] = self.sent.get("override_settings", {})
        self.sampler, self.schedule = catalog.split_sampler(self.sent["sampler_name"], self.sent.get("scheduler"))
        recorded = np.load(path.with_suffix(".0.npz"))
        self.recorded: dict[str, torch.Tensor] = {key: torch.from_numpy(recorded[key]) for key in recorded}
        self.latents = next(value for key, value in self.recorded.items() if key.endswith("_latent"))

    @property
    def resolved(self) -> str:
        """Label of the schedule that was really walked."""
        return catalog.resolved_schedule(self.sampler, self.schedule)

    def difference(self, unet: Unet) -> float:
        """The largest relative distance of the case's latents."""
        found = [self._draw(unet, picture) for picture in range(len(self.latents))]
        gaps = [float((mine - theirs).norm() / theirs.norm()) for mine, theirs in zip(found, self.latents, strict=True)]
        return max(gaps)

    def _draw(self, unet: Unet, picture: int) -> torch.Tensor:
        spec, track = self._spec(picture), Track(steps=1000)
        latent = run(sample(spec, self._predict(unet, picture), self._noise(picture), track))
        assert self.sampler == "DPM adaptive" or track.step == calls_of(spec)
        return latent

    def _spec(self, picture: int) -> SampleSpec:
        chosen = {key: value for key, value in self.options.items() if key in DrawOptions.model_fields}
        v = str(self.options.get("sd_model_checkpoint", "")).endswith("-v")
        options = DrawOptions(**chosen)
        return SampleSpec(
            sampler=self.sampler,
            schedule=self.schedule,
            steps=self.sent["steps"],
            view=ModelView(SIGMAS, "v" if v else "epsilon"),
            shape=tuple(self.latents.shape[1:]),
            options=options,
            **{key: self.options.get(key) for key in ("s_churn", "s_tmin", "s_tmax", "s_noise")},
            start_latent=self.recorded["call0_x"][picture] if "init_images" in self.sent else None,
            denoising=self.sent.get("denoising_strength"),
            steps_given=options.img2img_fix_steps,
        )

    def _noise(self, picture: int) -> PictureNoise:
        strength = self.sent.get("subseed_strength", 0.0)
        return PictureNoise(
            self.options.get("randn_source", "CPU"),
            self.sent["seed"] + (0 if strength else picture),
            subseed=self.sent.get("subseed", 0) + picture,
            subseed_strength=strength,
            resize_from=(self.sent.get("seed_resize_from_w", 0), self.sent.get("seed_resize_from_h", 0)),
            ensd=self.options.get("eta_noise_seed_delta", 0),
        )

    def _predict(self, unet: Unet, picture: int) -> Any:
        row = catalog.sampler(self.sampler)
        scale = self.sent["cfg_scale"] / row.cfg_divisor
        cond, uncond = (self._entries(f"call0_{kind}_t") for kind in (f"c_b{picture}_s0", f"uc_b{picture}"))

        def predict(
            x: torch.Tensor, t: float, _sigma: float, call: int, _total: int
        ) -> Generator[Any, Any, Prediction]:
            context = torch.stack([_at(cond, call), _at(uncond, call)])
            with_prompt, without = unet(torch.stack([x, x]), torch.tensor([t, t]), context)
            return Prediction(without + scale * (with_prompt - without), without)
            yield

        return predict

    def _entries(self, prefix: str) -> list[tuple[int, torch.Tensor]]:
        found = []
        for key, value in self.recorded.items():
            if key.startswith(prefix) and (end := re.search(r"_end(\d+)$", key)):
                found.append((int(end[1]), value))
        return sorted(found, key=lambda entry: entry[0])


def _at(entries: list[tuple[int, torch.Tensor]], call: int) -> torch.Tensor:
    return next((value for end, value in entries if call <= end), entries[-1][1])


def tiny_unet(data: Path) -> Unet:
    """The UNet of the small checkpoint under a data root, in float32."""
    from danqing.engine.models import load
    from danqing.library.index import Library

    model = load(Library(data).resolve("tiny-sd15"), torch.device("cpu"), torch.float32)

    def unet(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = model.unet(x, t, context).sample
        return out

    return unet
