"""Captions into token rows over the few words that training meets.

The tokenizer is CLIP's own. Of its 49,408 rows only a few hundred are ever used by captions, so
training holds a compact table: row 0 stands for every other word, and the export copies it there.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from danqing.mini import captions
from danqing.mini.nets import BOS, EOS, TOKENS
from danqing.mini.scenes import STAGES, sample_scene

UNKNOWN, BEGIN, END = 0, 1, 2


def clip_folder() -> Path:
    """Where CLIP's vocabulary lies: the package's assets, or DANQING_CLIP."""
    shipped = Path(__file__).resolve().parent.parent / "assets" / "clip"
    return Path(os.environ.get("DANQING_CLIP", shipped))


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, padded with its end token to 77 as Stable Diffusion 1 does."""
    return CLIPTokenizer.from_pretrained(str(clip_folder()))


class Words:
    """The compact vocabulary: `used[i]` is the CLIP id of row i + 1 (begin and end come first)."""

    def __init__(self, used: list[int]) -> None:
        self.used = used
        self.tokenizer = clip_tokenizer()
        self.rows = {token: row + 1 for row, token in enumerate(used)}
        self.known: dict[str, list[int]] = {}

    @classmethod
    def gather(cls, captions_each: int = 3000) -> Words:
        """The words of many random captions of all stages."""
        rng = random.Random(5)
        tokenizer, met = clip_tokenizer(), set[int]()
        for stage in STAGES:
            lines = [captions.caption(sample_scene(stage, rng), rng, 0.15, 0.5) for _ in range(captions_each)]
            for line in tokenizer(list(set(lines))).input_ids:
                met.update(line)
        return cls([BOS, EOS, *sorted(met - {BOS, EOS})])

    @classmethod
    def load(cls, path: Path) -> Words:
        """Read what `save` wrote."""
        return cls(json.loads(path.read_text("utf-8")))

    def save(self, path: Path) -> None:
        """Write the CLIP ids in use."""
        path.write_text(json.dumps(self.used), "utf-8")

    def __len__(self) -> int:
        return len(self.used) + 1

    def row(self, text: str, noise: random.Random | None = None) -> list[int]:
        """One caption as 77 compact ids; `noise` mixes in unknown words now and then."""
        if text not in self.known:
            ids = self.tokenizer(text).input_ids[1:-1]
            self.known[text] = [self.rows.get(token, UNKNOWN) for token in ids]
        ids = list(self.known[text])
        if noise is not None and ids and noise.random() < 0.1:
            for _ in range(noise.randint(1, 4)):
                ids.insert(noise.randint(0, len(ids)), UNKNOWN)
        ids = ids[: TOKENS - 2]
        return [BEGIN, *ids, *[END] * (TOKENS - 1 - len(ids))]

    def batch(self, texts: list[str], noise: random.Random | None = None) -> Tensor:
        """Captions as an int64 tensor (B, 77)."""
        return torch.tensor([self.row(text, noise) for text in texts])
