"""The miniature ControlNets' training: the UNet frozen, noise and weighting as in its own training.

One process of one thread. Pictures are drawn and encoded as training goes, a few at every step, and kept: the pool grows to
`POOL` and is renewed from then on, so that nothing waits for a cache.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor

from danqing.mini import parallel
from danqing.mini.captions import caption
from danqing.mini.control_data import KINDS, case, contested
from danqing.mini.control_nets import (
    bfloat16_parameters,
    control_file,
    load_control,
    new_control,
    samples_of,
    save_control,
)
from danqing.mini.export import load_pipeline
from danqing.mini.nets import SCALE, signal
from danqing.mini.parallel import Clock, Flat, save_whole, say, scalar, trapezoid
from danqing.mini.scenes import Scene
from danqing.mini.train_unet import noised, weights_of

RATE = 2e-3
BATCH = 8
FRESH, POOL = 2, 6000
"""New pictures a step, and most that are kept."""

UNSAID = 0.2
"""Share of empty captions: the control must hold without words, too, or guidance would pull against it."""

EARLY = 0.75
"""Share of timesteps from the noisy half besides those that fall there anyway: that is where the layout is decided."""

CONTESTED = 30.0
"""Weight of the error where one object hides another, beside 1 elsewhere: few cells, and they alone show the depth order."""

CHECKED = 600
"""Timestep at which the check looks: late enough that the words leave the place open, early enough that noise hides it."""


@dataclass(frozen=True)
class Kept:
    """One case of the pool: mean and deviation of the latents (2, 4, 16, 16), hint (3, 128, 128) uint8.

    `weight` (1, 16, 16) is the error's, 1 on average.
    """

    scene: Scene
    latent: Tensor
    hint: Tensor
    weight: Tensor


class Frozen:
    """The shipped model's parts, in bfloat16 where they run at every step."""

    def __init__(self, where: torch.device) -> None:
        pipeline = load_pipeline()
        self.where, self.words = where, pipeline.tokenizer
        self.vae, self.text = pipeline.vae.to(where), pipeline.text_encoder.to(where)
        self.unet = pipeline.unet.to(where, torch.bfloat16)
        if where.type == "cpu":
            for block in self.unet.up_blocks[1:]:
                # Backwards, and gradients pass only here, PyTorch's fused attention is slower than two products on CPUs.
                for attention in (m for m in block.modules() if isinstance(m, Attention)):
                    attention.set_processor(AttnProcessor())

    @torch.no_grad()
    def kept(self, kind: str, seeds: list[int], held_out: bool = False) -> list[Kept]:
        """Draw and encode the cases of some seeds."""
        cases = [case(kind, seed, held_out) for seed in seeds]
        pictures = torch.from_numpy(np.stack([one.picture for one in cases])).permute(0, 3, 1, 2)
        hidden = self.vae.encode(pictures.float().to(self.where) / 127.5 - 1).latent_dist
        latents = torch.stack([hidden.mean, hidden.std], 1) * SCALE
        hints = [torch.from_numpy(one.hint.copy()).permute(2, 0, 1) for one in cases]
        weights = [torch.from_numpy(1 + (CONTESTED - 1) * contested(one.scene))[None] for one in cases]
        return [
            Kept(one.scene, latents[k].half(), hints[k].to(self.where), (weights[k] / weights[k].mean()).to(self.where))
            for k, one in enumerate(cases)
        ]

    @torch.no_grad()
    def context(self, texts: list[str]) -> Tensor:
        """Captions encoded: bfloat16 (B, 77, 64)."""
        rows = self.words(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        found: Tensor = self.text(input_ids=rows.to(self.where))[0]
        return found.to(torch.bfloat16)


class Trainer:
    """One ControlNet, its optimizer and its pool of cases."""

    def __init__(self, kind: str, out: Path, minutes: float, resume: bool) -> None:
        self.kind, self.out, self.where = kind, out, parallel.device()
        torch.manual_seed(KINDS.index(kind))
        self.net, self.frozen = new_control().to(self.where), Frozen(self.where)
        self.flat = Flat(self.net.parameters())
        self.samples, self.seed, before = 0, 0, 0.0
        if resume and self.path.exists():
            before = self._load()
        elif resume and control_file(kind).exists():
            self._begin_with(control_file(kind))
        self.clock = Clock(minutes, before)
        self.rng = random.Random(self.seed)
        torch.manual_seed(self.seed)
        self.signals = signal(self.where)
        self.pool: list[Kept] = []
        self.check = self.frozen.kept(kind, list(range(10**8, 10**8 + BATCH)))

    @property
    def path(self) -> Path:
        """The checkpoint, from which a resumed run goes on."""
        return self.out / f"control-{self.kind}.pt"

    def run(self) -> None:
        """Train until the minutes are spent, then write the net in half precision."""
        seen: list[Tensor] = []
        for _ in self.clock.rounds():
            for now in self.clock.steps():
                seen.append(self._step(now))
            if self.clock.round % 4 == 3:
                ratio = self._checked()
                spent = self.clock.spent()
                say(f"{self.kind} {spent:.1f} min, {self.samples} samples, loss {scalar(seen):.4f}, check {ratio:.3f}")
                seen.clear()
            if self.clock.round % 8 == 7:
                self._save(self.clock.spent())
        self._save(self.clock.minutes)
        self.flat.use_mean()
        save_control(self.net, control_file(self.kind, self.out), self.kind, self.samples)

    def _drawn(self) -> list[Kept]:
        fresh = self.frozen.kept(self.kind, list(range(self.seed, self.seed + FRESH)))
        self.seed += FRESH
        if len(self.pool) >= POOL:
            del self.pool[:FRESH]
        self.pool += fresh
        return [*fresh, *self.rng.choices(self.pool, k=BATCH - FRESH)]

    def _guess(self, noisy: Tensor, times: Tensor, context: Tensor, rows: list[Kept] | None) -> Tensor:
        """The UNet's guess of the noise, under control where there are rows of hints; float32."""
        residuals: dict[str, Any] = {}
        if rows is not None:
            hints = torch.stack([row.hint for row in rows]).to(torch.bfloat16) / 255
            given = {"encoder_hidden_states": context, "controlnet_cond": hints, "return_dict": False}
            weights = bfloat16_parameters(self.net)
            down, middle = torch.func.functional_call(self.net, weights, (noisy, times), given)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        guess: Tensor = self.frozen.unet(noisy, times, context, **residuals).sample
        return guess.float()

    def _step(self, done: float) -> Tensor:
        rows = self._drawn()
        both = torch.stack([row.latent for row in rows]).float()
        clean = both[:, 0] + both[:, 1] * torch.randn_like(both[:, 0])
        texts = ["" if self.rng.random() < UNSAID else caption(row.scene, self.rng, 0.1) for row in rows]
        noisy, times, noise = noised(clean, self.signals, EARLY)
        guess = self._guess(noisy.to(torch.bfloat16), times, self.frozen.context(texts), rows)
        error = torch.stack([row.weight for row in rows]) * (guess - noise).square()
        loss: Tensor = (weights_of(times, self.signals) * error.mean((1, 2, 3))).mean()
        torch.autograd.backward(loss)
        self.flat.step(RATE * trapezoid(done, tail=0.35), 0.995)
        self.samples += len(rows)
        return loss.detach()

    @torch.no_grad()
    def _checked(self) -> float:
        """The weighted error on unseen cases as a share of that without control, at one timestep: 1 is no use."""
        generator = torch.Generator().manual_seed(0)
        clean = torch.stack([row.latent[0] for row in self.check]).float()
        noise = torch.randn(clean.shape, generator=generator).to(self.where)
        share = self.signals[CHECKED]
        noisy = (share.sqrt() * clean + (1 - share).sqrt() * noise).to(torch.bfloat16)
        context = self.frozen.context([caption(row.scene, random.Random(0), 0.0, 0.0) for row in self.check])
        times = torch.full((len(clean),), CHECKED, device=self.where)
        with_, without = (self._guess(noisy, times, context, rows) for rows in (self.check, None))
        weights = torch.stack([row.weight for row in self.check])
        return float((weights * (with_ - noise).square()).mean() / (weights * (without - noise).square()).mean())

    def _save(self, spent: float) -> None:
        state = {"flat": self.flat.state(), "minutes": spent, "samples": self.samples, "seed": self.seed}
        save_whole(state, self.path)

    def _begin_with(self, path: Path) -> None:
        """Go on from a finished net, with scenes that it has not seen."""
        self.net.load_state_dict(load_control(path).state_dict())
        self.flat.mean.copy_(self.flat.flat.data)
        self.samples = self.seed = samples_of(path)

    def _load(self) -> float:
        state: dict[str, Any] = torch.load(self.path, map_location=self.where, weights_only=True)
        self.flat.load(state["flat"])
        self.samples, self.seed = state["samples"], state["seed"]
        return float(state["minutes"])


def train_control(kind: str, out: Path, minutes: float, resume: bool) -> None:
    """Train the net of one kind in `minutes`, those of resumed runs counted; writes its checkpoint and its file to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    if parallel.device().type == "cpu":
        # Small nets gain nothing from threads, and two on a busy machine wait for each other.
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    Trainer(kind, out, minutes, resume).run()
