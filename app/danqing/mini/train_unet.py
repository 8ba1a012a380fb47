"""The UNet's training: a curriculum that widens step by step and mixes the old into the new.

Offset noise keeps the mean of the noise from telling the background, and the weighting leans to
early, noisy timesteps: at 16x16 latents those decide everything that a caption speaks of.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danqing.mini import parallel
from danqing.mini.cache import Cache
from danqing.mini.captions import caption
from danqing.mini.nets import STEPS, new_text, new_unet, signal
from danqing.mini.parallel import Clock, Flat, save_whole, say, scalar, trapezoid
from danqing.mini.scenes import STAGES, mixed_stage
from danqing.mini.words import Words

RATE = 8e-4
TEXT_RATE = 0.1
"""The text encoder already knows the words: it follows at a tenth of the UNet's rate."""

BATCH = {"cpu": 8, "cuda": 512}
OFFSET = 0.2
UNSAID = 0.1
"""Share of empty captions, for classifier-free guidance."""


@dataclass(frozen=True)
class Phase:
    """From `start` (share of the minutes) on: weights of STAGES, cached pictures in all, caption drop."""

    start: float
    weights: tuple[float, ...]
    pictures: int
    drop: float = 0.0


PHASES = (
    Phase(0.0, (1, 0, 0, 0, 0), 4000),
    Phase(0.14, (0.3, 0.5, 0, 0.15, 0.05), 5000),
    Phase(0.32, (0.15, 0.25, 0.38, 0.16, 0.06), 8000),
    Phase(0.58, (0.14, 0.2, 0.5, 0.11, 0.05), 8000),
    Phase(0.78, (0.2, 0.2, 0.33, 0.12, 0.15), 9000),
    Phase(0.91, (0.2, 0.2, 0.33, 0.12, 0.15), 9000, 0.1),
)


def phase_at(fraction: float) -> Phase:
    """The phase in force when `fraction` of the minutes is spent."""
    return [phase for phase in PHASES if phase.start <= fraction][-1]


def noised(clean: Tensor, signals: Tensor, early: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, their timesteps and the noise; `early`: share of timesteps from the noisy half, the rest come from all."""
    count, where = len(clean), clean.device
    low = torch.where(torch.rand(count, device=where) < early, STEPS // 2, 0)
    times = (low + torch.rand(count, device=where) * (STEPS - low)).long()
    noise = torch.randn_like(clean) + OFFSET * torch.randn(count, 4, 1, 1, device=where)
    share = signals[times].view(-1, 1, 1, 1)
    return share.sqrt() * clean + (1 - share).sqrt() * noise, times, noise


def weights_of(times: Tensor, signals: Tensor) -> Tensor:
    """Weight of the noise's square error: snr to the power of -1/2, at most 12."""
    ratio = signals[times] / (1 - signals[times])
    return ratio.rsqrt().clamp(max=12)


class Trainer:
    """UNet and text encoder, their optimizers and their data."""

    def __init__(self, out: Path, minutes: float, resume: bool) -> None:
        self.out, self.where = out, parallel.device()
        self.words = Words.load(out / "words.json")
        self.text, self.unet = new_text(len(self.words)).to(self.where), new_unet().to(self.where)
        learned = torch.load(out / "text.pt", map_location=self.where, weights_only=True)
        self.text.load_state_dict(learned["text"])
        self.flats = (Flat(self.unet.parameters()), Flat(self.text.parameters()))
        self.cache, self.phase = Cache(out), Phase(-1, (), 0)
        self.samples, before = 0, 0.0
        if resume and (out / "unet.pt").exists():
            before = self._load()
        self.clock = Clock(minutes, before)
        self.rng = random.Random(parallel.rank() + 100 * int(before * 60))
        torch.manual_seed(parallel.rank() + 100 * int(before * 60))
        self.signals = signal(self.where)

    def run(self) -> None:
        """Train until the minutes are spent, then save once more."""
        seen: list[Tensor] = []
        for done in self.clock.rounds():
            self._enter(done)
            for now in self.clock.steps():
                seen.append(self._step(now))
            for flat in self.flats:
                flat.blend()
            if self.clock.round % 4 == 3:
                say(f"unet {self.clock.spent():.1f} min, {self.samples} samples, loss {scalar(seen):.4f}")
                seen.clear()
            if self.clock.round % 12 == 11:
                self._save(self.clock.spent())
        self._save(self.clock.minutes)

    def _enter(self, done: float) -> None:
        """Start the phase of this moment, if it is a new one."""
        phase = phase_at(done)
        if phase == self.phase:
            return
        self.phase = phase
        whole = sum(phase.weights)
        shares = zip(STAGES, phase.weights, strict=True)
        self.cache.fill({s: int(phase.pictures * w / whole) for s, w in shares if w})
        say(f"unet phase from {phase.start}: {dict(zip(STAGES, phase.weights, strict=True))}")

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Clean standardised latents (B, 4, 16, 16) and token rows (B, 77)."""
        latents, texts = [], []
        for _ in range(BATCH[self.where.type]):
            latent, scene = self.cache.draw(mixed_stage(self.phase.weights, self.rng), self.rng)
            latents.append(latent)
            silent = self.rng.random() < UNSAID
            texts.append("" if silent else caption(scene, self.rng, self.phase.drop))
        both = torch.stack(latents).float().to(self.where)
        clean = both[:, 0] + both[:, 1] * torch.randn_like(both[:, 0])
        return clean, self.words.batch(texts, self.rng).to(self.where)

    def _step(self, done: float) -> Tensor:
        clean, rows = self._batch()
        noisy, times, noise = noised(clean, self.signals)
        guess = self.unet(noisy, times, self.text(input_ids=rows)[0]).sample
        error = (guess - noise).square().mean((1, 2, 3))
        loss: Tensor = (weights_of(times, self.signals) * error).mean()
        torch.autograd.backward(loss)
        rate = RATE * trapezoid(done)
        self.flats[0].step(rate, 0.998)
        self.flats[1].step(rate * TEXT_RATE, 0.998)
        self.samples += len(clean) * parallel.world()
        return loss.detach()

    def _save(self, spent: float) -> None:
        if parallel.rank() == 0:
            states = [flat.state() for flat in self.flats]
            save_whole({"flats": states, "minutes": spent, "samples": self.samples}, self.out / "unet.pt")

    def _load(self) -> float:
        state: dict[str, Any] = torch.load(self.out / "unet.pt", map_location=self.where, weights_only=True)
        for flat, saved in zip(self.flats, state["flats"], strict=True):
            flat.load(saved)
        self.samples = state["samples"]
        return float(state["minutes"])


def train_unet(out: Path, minutes: float, resume: bool) -> None:
    """Train UNet and text encoder in `minutes`, those of resumed runs counted; writes `unet.pt`."""
    Trainer(out, minutes, resume).run()
