"""Noise that depends on a picture's seed alone, not on its device or its company.

Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" - the generator behind `torch.randn` on
NVIDIA GPUs, so that "GPU" and "NV" seeds give on any device the noise that they give there.
"""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

Shape = tuple[int, ...]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF
_SHIFT = np.uint64(32)


class Generator(Protocol):
    """One picture's source of standard normal numbers; every draw goes on where the last one stopped."""

    def randn(self, shape: Shape) -> torch.Tensor:
        """float32 on the CPU, of `shape`."""
        ...


class CpuGenerator:
    """torch's Mersenne twister on the CPU."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def randn(self, shape: Shape) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator)


class PhiloxGenerator:
    """Philox4x32-10 keyed by the 64-bit seed; counter word 0 counts draws, word 2 numbers the elements."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = 0

    def randn(self, shape: Shape) -> torch.Tensor:
        words = _philox(self._draws, math.prod(shape), self._seed)
        self._draws += 1
        return _box_muller(*(torch.from_numpy(word.view(np.int64)) for word in words)).reshape(shape)


def _philox(draw: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Words 0 and 1 of the ten-round function for `count` elements, as uint64 below 2^32."""
    # Words stay 64 bits wide, so that products need no cast; every step works in place.
    c0, c1, c2, c3 = (np.zeros(count, np.uint64) for _ in range(4))
    c0 += np.uint64(draw)
    c2 += np.arange(count, dtype=np.uint64)
    p0, p1 = np.empty_like(c0), np.empty_like(c0)
    k0, k1, low = seed & _WORD, (seed >> 32) & _WORD, np.uint64(_WORD)
    for _ in range(10):
        np.multiply(c0, _M0, out=p0)
        np.multiply(c2, _M1, out=p1)
        np.right_shift(p1, _SHIFT, out=c0)
        np.bitwise_xor(c0, c1, out=c0)
        np.bitwise_xor(c0, np.uint64(k0), out=c0)
        np.bitwise_and(p1, low, out=c1)
        np.right_shift(p0, _SHIFT, out=c2)
        np.bitwise_xor(c2, c3, out=c2)
        np.bitwise_xor(c2, np.uint64(k1), out=c2)
        np.bitwise_and(p0, low, out=c3)
        k0, k1 = (k0 + _W0) & _WORD, (k1 + _W1) & _WORD
    return c0, c1


_TINY = float(np.float32(2.3283064e-10))
_TURN = float(np.float32(2.3283064e-10 * 6.2831855))


def _box_muller(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The sine half, as CUDA keeps it: float32 constants, as there."""
    u = x.double().mul_(_TINY).add_(_TINY / 2)
    v = y.double().mul_(_TURN).add_(_TURN / 2)
    return u.log_().mul_(-2).sqrt_().mul_(v.sin_()).float()


def generator(source: str, seed: int) -> Generator:
    """The generator of a request's `rng`. `seed`: 0 to 2^63 - 1."""
    return CpuGenerator(seed) if source == "CPU" else PhiloxGenerator(seed)


class PictureNoise:
    """All random numbers of one pass over one picture, the first draw and those after it.

    Args:
        source: whose numbers, a request's `rng`.
        seed: 0 to 2^63 - 1.
        subseed, subseed_strength: noise that the first draw is mixed with, strength 0..1.
        resize_from: width and height in pixels of a picture whose noise is to lie in the middle of this one's; 0 is off.
        ensd: added to the seed for every draw but the first.
    """

    def __init__(
        self,
        source: str,
        seed: int,
        *,
        subseed: int = 0,
        subseed_strength: float = 0.0,
        resize_from: tuple[int, int] = (0, 0),
        ensd: int = 0,
    ) -> None:
        self._source, self._seed, self._ensd = source, seed, ensd
        self._subseed, self._strength, self._resize_from = subseed, subseed_strength, resize_from
        self._generator = generator(source, seed)

    def first(self, shape: Shape) -> torch.Tensor:
        """The noise that the picture begins with, (C, h, w)."""
        width, height = (side // 8 for side in self._resize_from)
        small = (shape[0], height, width) if width > 0 and height > 0 else shape
        resized = small != shape
        noise = generator(self._source, self._seed).randn(small) if resized else self._generator.randn(small)
        if self._strength:
            noise = slerp(self._strength, noise, generator(self._source, self._subseed).randn(small))
        if resized:
            noise = _pasted(noise, self._generator.randn(shape))
        if self._ensd:
            self._generator = generator(self._source, (self._seed + self._ensd) & _SEED_MASK)
        return noise

    def next(self, shape: Shape) -> torch.Tensor:
        """The next draw of the same generator."""
        return self._generator.randn(shape)

    def brownian(self, shape: Shape, sigmas: torch.Tensor, *, shared: bool = True) -> BrownianNoise:
        """Noise of a Brownian path over the whole schedule `sigmas`. Not `shared`, its seed is drawn from the picture's own."""
        seed = self._seed
        if not shared:
            seed = int(torch.randint(0, 2**63 - 1, [], generator=torch.Generator().manual_seed(self._seed)))
        return BrownianNoise(self._source, seed, shape, float(sigmas[sigmas > 0].min()), float(sigmas.max()))


_SEED_MASK = 2**63 - 1


def slerp(share: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Spherical interpolation of noises (C, h, w), as the WebUI has it: angles are taken along h.

    Noises that are nearly the same are mixed in a line, `low` by `share`.
    """
    unit_low = low / torch.linalg.norm(low, dim=1, keepdim=True)
    unit_high = high / torch.linalg.norm(high, dim=1, keepdim=True)
    dot = (unit_low * unit_high).sum(1)
    if dot.mean() > 0.9995:
        return low * share + high * (1 - share)
    angle = dot.acos()
    sine = angle.sin()
    parts = [(part.sin() / sine).unsqueeze(1) for part in ((1 - share) * angle, share * angle)]
    mixed: torch.Tensor = parts[0] * low + parts[1] * high
    return mixed


def _pasted(small: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """`noise` with `small` in its middle, cropped where it is the larger one."""
    into, of = [slice(None)], [slice(None)]
    for full, part in zip(noise.shape[1:], small.shape[1:], strict=True):
        offset = (full - part) // 2
        size = part if offset >= 0 else part + 2 * offset
        into.append(slice(max(offset, 0), max(offset, 0) + size))
        of.append(slice(max(-offset, 0), max(-offset, 0) + size))
    noise[tuple(into)] = small[tuple(of)]
    return noise


DIGITS = 6
"""Decimal places to which times are rounded: the path is the same for the same times, not for nearly the same."""


class BrownianNoise:
    """Steps of a Brownian path that depends on its seed and its ends alone, not on what is asked for in which order.

    The path is a binary tree of halved intervals, each with a seed of its own: torchsde's `BrownianTree` (Apache 2.0,
    https://github.com/google-research/torchsde) with its tolerance 1e-6 and pool 24, written again so that every picture may
    draw from a source of its own.

    Args:
        low, high: ends of the path; times outside count as the nearer end.
    """

    def __init__(self, source: str, seed: int, shape: Shape, low: float, high: float) -> None:
        self._source, self._seed, self._shape = source, seed, shape
        self._low, self._high = round(low, DIGITS), round(high, DIGITS)
        self._whole = self._randn(np.random.SeedSequence(seed, pool_size=24)) * math.sqrt(high - low)
        self._draws: dict[tuple[int, int], torch.Tensor] = {}
        self._known: dict[float, torch.Tensor] = {}

    def __call__(self, sigma: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Standard normal noise, float32, for the step between two sigmas."""
        start, end = float(sigma), float(after)
        if start == end:
            return torch.zeros(self._shape)
        step = self._at(self._time(end)) - self._at(self._time(start))
        return (step / math.sqrt(abs(end - start))).float()

    def _time(self, time: float) -> float:
        return min(max(round(time, DIGITS), self._low), self._high)

    def _at(self, time: float) -> torch.Tensor:
        """The path's height over its low end, float64."""
        if time in self._known:
            return self._known[time]
        self._known = dict(list(self._known.items())[-3:])
        splits = _splits(self._low, self._high, time)
        # The way to the next time begins like this one; what is further off is not needed again.
        self._draws = self._drawn(splits)
        width, height = self._whole, torch.zeros(self._shape, dtype=torch.float64)
        for split in splits:
            left = split.left(width, self._draws[split.node])
            if time <= split.middle:
                width = left
            else:
                height, width = height + left, width - left
        # A way that splits at all ends where the time ends an interval; the path's own ends need none.
        self._known[time] = height + width if splits or time == self._high else height
        return self._known[time]

    def _drawn(self, splits: list[_Split]) -> dict[tuple[int, int], torch.Tensor]:
        """The noise of every split, drawn side by side: it is most of the work, and numpy and torch let go of the lock for it."""
        missing = [split.node for split in splits if split.node not in self._draws]
        seeds = [np.random.SeedSequence(self._seed, spawn_key=node, pool_size=24) for node in missing]
        side_by_side = torch.get_num_threads() > 1 and math.prod(self._shape) >= MANY
        fresh = dict(zip(missing, (_helpers().map if side_by_side else map)(self._randn, seeds), strict=True))
        known = {**self._draws, **fresh}
        return {split.node: known[split.node] for split in splits}

    def _randn(self, seeds: np.random.SeedSequence) -> torch.Tensor:
        return generator(self._source, int(seeds.generate_state(1)[0])).randn(self._shape)


MANY = 8192
"""Numbers in a draw from which helpers are worth their start."""


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, torch.get_num_threads()), "brownian")


@dataclass(frozen=True, slots=True)
class _Split:
    """An interval of the tree, halved on the way to a time. `node`: its number within its depth, and the depth."""

    start: float
    middle: float
    end: float
    node: tuple[int, int]

    def left(self, width: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The left half's share of the path's step over the interval: a Brownian bridge."""
        part = 1 / (self.end - self.start)
        deviation = math.sqrt((self.middle - self.start) * (self.end - self.middle) * part)
        return (self.middle - self.start) * width * part + deviation * noise


def _splits(start: float, end: float, time: float) -> list[_Split]:
    """From the whole path down to where `time` is an end of an interval."""
    found: list[_Split] = []
    key = 0
    while start < time < end:
        split = _Split(start, round(0.5 * (start + end), DIGITS), end, (key, len(found)))
        found.append(split)
        if time <= split.middle:
            end, key = split.middle, 2 * key
        else:
            start, key = split.middle, 2 * key + 1
    return found
