"""Which waiting calls share the next forward pass. No torch, no users: plain objects in, a group out.

The share that had least of the device goes first, and of its calls the oldest leads; calls with the same key join it in the same
order, up to a cap on rows. The cap grows only as far
as sharing gains on this device: `Gain` keeps the measured seconds per row and stops doubling where a doubling brings nothing.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

EXPLORE_EVERY = 64
"""Forwards of one key between two tries of the largest batch allowed."""

SHARES = 256
"""Accounts kept before those of shares with nothing to run are forgotten."""


class Kind(StrEnum):
    """What a forward pass runs."""

    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    ENCODE_IMAGE = "encode_image"
    ENLARGE = "enlarge"


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Calls with equal keys may share one forward. Everything else (t, sigma, seed, CFG, sampler) is per row."""

    kind: Kind
    """Text encoder, UNet and VAE are different networks."""
    model: Hashable
    """Rows of one forward use the same weights."""
    height: int = 0
    """Latent height: rows are stacked into one tensor."""
    width: int = 0
    """Latent width, likewise."""
    tokens: int = 0
    """Length of the conditioning: attention over padding would change the picture, so lengths do not mix."""
    clip_skip: int = 0
    """Encode only: which hidden layer is read differs for the whole forward."""
    adapters: Hashable = ()
    """Rows of one forward use the same weights, adapters included."""
    manner: Hashable = ()
    """What changes the networks themselves: circular padding, token merging, tiles, and which ControlNets run beside."""


@dataclass(slots=True, eq=False)
class Part:
    """One row-set of a waiting call that must stay whole. `order` grows with the time at which the call began to wait."""

    key: BatchKey
    rows: int
    order: int
    payload: Any = None
    owner: Any = None
    slot: int = 0
    share: str = ""
    """On whose account it goes: parts of different shares get the device in turn."""

    @property
    def cost(self) -> int:
        """Latent pixels, by which the time of a forward grows."""
        return self.rows * max(1, self.key.height * self.key.width)


@dataclass(slots=True)
class Gain:
    """Measured seconds per row for each number of rows (in powers of two) of one key."""

    threshold: float
    """A doubling must bring seconds per row below this share of the smaller batch's, else it is not worth the wait."""
    best: dict[int, float] = field(default_factory=dict)
    notes: int = 0

    def note(self, rows: int, seconds: float) -> None:
        self.notes += 1
        bucket = _bucket(rows)
        per_row = seconds / rows
        old = self.best.get(bucket)
        # Slow samples come from busy machines; the fastest seen is what the device can do, forgotten slowly.
        self.best[bucket] = per_row if old is None else min(per_row, old * 1.01)

    def cap(self, most: int, seconds: float = 0.0) -> int:
        """Rows worth having: twice the largest measured size while doublings gain, at most `most`, and no more than are expected
        to take `seconds` (0: as long as it takes).

        Now and then it lets one larger batch through, so that a measurement spoilt by a busy machine does not stick.
        """
        return self._in_time(self._worth(most), seconds) if seconds > 0 else self._worth(most)

    def _in_time(self, rows: int, seconds: float) -> int:
        """At most so many rows that a forward keeps to `seconds`, one at least. Of sizes not yet seen the nearest smaller one's
        seconds per row are expected, else the smallest one's."""
        sizes = sorted(self.best)
        while rows > 1 and sizes:
            known = max((size for size in sizes if size <= rows), default=sizes[0])
            fits = int(seconds / self.best[known])
            if fits >= rows:
                return rows
            rows = max(1, min(rows - 1, fits if fits >= known else known - 1))
        return rows

    def _worth(self, most: int) -> int:
        sizes = sorted(self.best)
        if self.notes % EXPLORE_EVERY == EXPLORE_EVERY - 1:
            return most
        for small, large in itertools.pairwise(sizes):
            if self.best[large] > self.threshold * self.best[small]:
                return min(small, most)
        return min(sizes[-1] * 2 if sizes else 2, most)


def _bucket(rows: int) -> int:
    """The power of two at or below `rows`."""
    return 1 << (rows.bit_length() - 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one forward pass. Budgets are in latent pixels (height * width * rows): they bound memory.

    `gain`: see `Gain.threshold`; above 1 lets every batch grow to `rows`. `seconds`: what one forward of the UNet should take at
    most, 0 for as long as it takes: whoever comes anew waits for the one that runs.
    """

    rows: int = 32
    denoise_budget: int = 65536
    decode_budget: int = 4096
    gain: float = 0.97
    seconds: float = 0.0

    def most(self, key: BatchKey) -> int:
        """Rows that fit, one at least."""
        if key.kind is Kind.ENCODE:
            return self.rows
        if key.kind is Kind.ENLARGE:
            return 1
        budget = self.denoise_budget if key.kind is Kind.DENOISE else self.decode_budget
        return max(1, min(self.rows, budget // max(1, key.height * key.width)))


class Scheduler:
    """Holds waiting parts and hands out groups."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: list[Part] = []
        self._used: dict[str, int] = {}
        self._clock = 0
        """What the last leader's share had used: who comes anew starts there, so that nobody saves up turns."""
        self._gains: dict[BatchKey, Gain] = defaultdict(lambda: Gain(limits.gain))

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._waiting.append(part)
            self._used[part.share] = max(self._used.get(part.share, 0), self._clock)

    def drop(self, owner: Any) -> None:
        """Forget every part of `owner`."""
        self._waiting = [part for part in self._waiting if part.owner is not owner]

    def next_group(self) -> list[Part]:
        """The parts of the next forward, taken off the waiting list; [] when nothing waits.

        A part larger than the cap goes alone.
        """
        if not self._waiting:
            return []
        leader = min(self._waiting, key=self._turn)
        cap = self.cap(leader.key)
        group: list[Part] = []
        rows = 0
        for part in sorted((p for p in self._waiting if p.key == leader.key), key=self._turn):
            if group and rows + part.rows > cap:
                break
            group.append(part)
            rows += part.rows
        taken = set(map(id, group))
        self._waiting = [part for part in self._waiting if id(part) not in taken]
        self._account(leader, group)
        return group

    def _turn(self, part: Part) -> tuple[int, int]:
        return self._used[part.share], part.order

    def _account(self, leader: Part, group: list[Part]) -> None:
        self._clock = self._used[leader.share]
        for part in group:
            self._used[part.share] += part.cost
        if len(self._used) > SHARES:
            self._used = {part.share: self._used[part.share] for part in (*self._waiting, *group)}

    def cap(self, key: BatchKey) -> int:
        """Rows that a forward of this key may have now."""
        most = self._limits.most(key)
        return self._gains[key].cap(most, self._limits.seconds) if key.kind is Kind.DENOISE else most

    def note(self, key: BatchKey, rows: int, seconds: float) -> None:
        """Tell how long a forward of `rows` rows took."""
        self._gains[key].note(rows, seconds)
