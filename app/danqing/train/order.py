"""In which order pictures come: a function of the seed and the number of the batch alone, so that nothing of it need be saved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

Size = tuple[int, int]


@dataclass(slots=True)
class Order:
    """Batches of pictures of one size each. Every picture comes once an epoch; a batch that is not full is filled up with
    pictures of its own size.

    Args:
        sizes: of every picture, (width, height).
    """

    sizes: Sequence[Size]
    batch_size: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _batches: list[list[int]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._enter(0)

    @property
    def batches_an_epoch(self) -> int:
        return len(self._batches)

    def batch(self, number: int) -> list[int]:
        """Which pictures batch `number` (from 0) holds."""
        epoch, place = divmod(number, self.batches_an_epoch)
        self._enter(epoch)
        return self._batches[place]

    def _enter(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        rng = random.Random(f"{self.seed}/{epoch}")
        groups: dict[Size, list[int]] = {}
        for index, size in enumerate(self.sizes):
            groups.setdefault(size, []).append(index)
        self._batches = [batch for _, group in sorted(groups.items()) for batch in self._cut(group, rng)]
        rng.shuffle(self._batches)
        self._epoch = epoch

    def _cut(self, group: list[int], rng: random.Random) -> list[list[int]]:
        rng.shuffle(group)
        count = -(-len(group) // self.batch_size) * self.batch_size
        filled = [group[index % len(group)] for index in range(count)]
        return [filled[start : start + self.batch_size] for start in range(0, count, self.batch_size)]
