"""Noise that depends on a picture's seed alone, not on its device or its company.

Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" - the generator behind `torch.randn` on
NVIDIA GPUs, so that "GPU" and "NV" seeds give on any device the noise that they give there.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

Shape = tuple[int, ...]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
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
        count = int(np.prod(shape, dtype=np.int64))
        words = [np.zeros(count, np.uint32) for _ in range(4)]
        words[0][:] = self._draws
        words[2][:] = np.arange(count, dtype=np.uint32)
        self._draws += 1
        x, y = _philox(words, self._seed)
        return torch.from_numpy(_box_muller(x, y)).reshape(shape)


def _philox(counter: list[np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Words 0 and 1 of the ten-round function, uint32 each."""
    c0, c1, c2, c3 = counter
    k0, k1 = np.uint32(seed & 0xFFFFFFFF), np.uint32((seed >> 32) & 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        for _ in range(10):
            p0, p1 = c0.astype(np.uint64) * _M0, c2.astype(np.uint64) * _M1
            high0, low0 = (p0 >> _SHIFT).astype(np.uint32), (p0 & _LOW).astype(np.uint32)
            high1, low1 = (p1 >> _SHIFT).astype(np.uint32), (p1 & _LOW).astype(np.uint32)
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + _W0, k1 + _W1
    return c0, c1


def _box_muller(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sine half, as CUDA keeps it. float32 in the constants, as there."""
    u = x * np.float32(2.3283064e-10) + np.float32(2.3283064e-10) / 2
    v = y * np.float32(2.3283064e-10 * 6.2831855) + np.float32(2.3283064e-10 * 6.2831855) / 2
    normal: np.ndarray = np.sqrt(-2.0 * np.log(u)) * np.sin(v)
    return normal.astype(np.float32)


def generator(source: str, seed: int) -> Generator:
    """The generator of a request's `rng`. `seed`: 0 to 2^63 - 1."""
    return CpuGenerator(seed) if source == "CPU" else PhiloxGenerator(seed)
