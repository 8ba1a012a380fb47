"""All stages of training in order, each left out where a resumed run finds its result."""

from __future__ import annotations

import os
from pathlib import Path

from danqing.mini.parallel import launch
from danqing.mini.train_text import train_text
from danqing.mini.train_unet import train_unet
from danqing.mini.train_vae import train_decoder, train_vae

STAGES = {"vae": 0.09, "text": 0.05, "unet": 0.78, "decoder": 0.08}
"""Stage -> its share of the minutes."""


def train(out: Path, minutes: float, resume: bool, only: str = "") -> None:
    """Train every stage, or `only` one, in `minutes` in all; files go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    # Small nets gain nothing from threads, and two processes on the same machine would fight for them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    shares = {name: share for name, share in STAGES.items() if only in ("", name)}
    whole = sum(shares.values())
    for name, share in shares.items():
        run_stage(name, out, minutes * share / whole, resume)


def run_stage(name: str, out: Path, minutes: float, resume: bool) -> None:
    """Train one stage in its own processes; the short ones start afresh unless they are done."""
    if name == "unet":
        launch(train_unet, processes(), out, minutes, resume)
        return
    short = {"vae": (train_vae, "vae.pt"), "text": (train_text, "text.pt"), "decoder": (train_decoder, "decoder.pt")}
    work, result = short[name]
    if resume and (out / result).exists():
        print(f"{name}: {result} is there, going on", flush=True)
        return
    launch(work, processes(), out, minutes)


def processes() -> int:
    """Two processes, or one where there is one core."""
    return min(2, os.cpu_count() or 1)
