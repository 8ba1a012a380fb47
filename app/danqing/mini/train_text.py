"""The text encoder's own lesson, before any picture: say from the caption alone what the scene is.

It stands in for CLIP's pretraining. At the end token and at every padding position after it, linear
heads must read off each attribute, so the UNet finds them wherever it looks; English and Chinese
captions of one scene are drawn together.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from danqing.mini import parallel
from danqing.mini.captions import caption
from danqing.mini.nets import TOKENS, WIDTH, new_text
from danqing.mini.parallel import Clock, Flat, cosine, save_whole, say, shared
from danqing.mini.poses import POSES
from danqing.mini.scenes import COLOURS, PLACES, SHAPES, THINGS, Scene, mixed_stage, sample_scene
from danqing.mini.words import END, Words

KINDS = ("", *SHAPES, *THINGS, "person")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "background": tuple(COLOURS),
    "kind": KINDS,
    "colour": tuple(COLOURS),
    "size": ("small", "medium", "large"),
    "place": tuple(PLACES),
    "pose": ("", *POSES),
    "relation": ("", "left", "above"),
    "second kind": KINDS,
    "second colour": ("", *COLOURS),
}
MIX = (2, 3, 4, 1.5, 1.5)
"""Weights of the stages: pairs are the hard grammar."""


def labels(scene: Scene) -> list[int]:
    """A scene's attributes as indices, in the order of ATTRIBUTES."""
    first = scene.things[0]
    kind, colour = (scene.things[1].kind, scene.things[1].colour) if scene.relation else ("", "")
    values = (scene.background, first.kind, first.colour, first.size, first.place, first.pose)
    named = zip(ATTRIBUTES.values(), (*values, scene.relation, kind, colour), strict=True)
    return [options.index(value) for options, value in named]


class Lesson:
    """Batches of scenes, each captioned in both languages."""

    def __init__(self, words: Words, seed: int) -> None:
        self.words, self.rng = words, random.Random(seed)

    def batch(self, count: int, drop: float) -> tuple[Tensor, Tensor]:
        """Token rows (2 * count, 77), English first, and labels (count, attributes)."""
        rng = self.rng
        scenes = [sample_scene(mixed_stage(MIX, rng), rng) for _ in range(count)]
        texts = [caption(scene, rng, drop, language) for language in (0, 1) for scene in scenes]
        return self.words.batch(texts, rng), torch.tensor([labels(scene) for scene in scenes])


def read_out(hidden: Tensor, rows: Tensor, head: nn.Linear) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Hidden states at one random position of each row's end and padding, and what the head reads there."""
    first = rows.eq(END).float().argmax(1)
    span = TOKENS - first
    late = first + (torch.rand(len(rows), device=rows.device) ** 2 * span).long().clamp(max=TOKENS - 1)
    states = hidden[torch.arange(len(rows), device=rows.device), late.clamp(max=TOKENS - 1)]
    return states, head(states).split([len(options) for options in ATTRIBUTES.values()], 1)


def accuracies(guesses: tuple[Tensor, ...], truth: Tensor) -> Tensor:
    """Share of right answers for every attribute."""
    return torch.stack([(g.argmax(1) == truth[:, k]).float().mean() for k, g in enumerate(guesses)])


def train_text(out: Path, minutes: float) -> None:
    """Train the text encoder in `minutes`; writes `words.json` and `text.pt`."""
    where = parallel.device()
    words = Words.gather()
    text = new_text(len(words)).to(where)
    head = nn.Linear(WIDTH, sum(map(len, ATTRIBUTES.values()))).to(where)
    flat, clock = Flat([*text.parameters(), *head.parameters()]), Clock(minutes)
    lesson, seen = Lesson(words, 11 + parallel.rank()), torch.zeros(0)
    for done in shared(clock, flat):
        rows, truth = (t.to(where) for t in lesson.batch(32, 0.15 if done > 0.6 else 0.0))
        states, guesses = read_out(text(input_ids=rows)[0], rows, head)
        both = truth.repeat(2, 1)
        losses = [cross_entropy(guess, both[:, k]) for k, guess in enumerate(guesses)]
        apart = (states[: len(truth)] - states[len(truth) :]).square().mean()
        torch.autograd.backward(torch.stack(losses).sum() + 0.3 * apart)
        flat.step(2e-3 * cosine(done))
        right = accuracies(guesses, both).cpu()
        seen = right if not len(seen) else 0.98 * seen + 0.02 * right
        if flat.steps % 200 == 0:
            marks = " ".join(f"{n} {v:.2f}" for n, v in zip(ATTRIBUTES, seen.tolist(), strict=True))
            say(f"text {clock.spent():.1f} min, step {flat.steps}, apart {apart.item():.2f}: {marks}")
    flat.use_mean()
    if parallel.rank() == 0:
        words.save(out / "words.json")
        save_whole({"text": text.state_dict(), "head": head.state_dict()}, out / "text.pt")
