"""Memory of the device: what a request needs at least, what would fit, and letting go of what is only kept for speed."""

from __future__ import annotations

import gc
import math
from typing import Any

import torch

from danqing.errors import DanqingError
from danqing.request import GenerateRequest, hires_size

MAPS = 10
"""Feature maps of the UNet's first level that one row holds at once at the very least. Fewer than in truth: a request is refused
only when it cannot fit."""

PIXELS = 64 * 3 * 4
"""Bytes of the finished picture as float32 for each latent pixel."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    words = ("not enough memory", "allocate memory", "out of memory")
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def without_frames(error: Exception) -> Exception:
    """The error without its tracebacks: their frames would keep the tensors alive that did not fit."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def give_back() -> None:
    """Hand freed memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def largest(request: GenerateRequest) -> tuple[int, int]:
    """Width and height in pixels of the largest picture that a request samples."""
    if request.hires is None:
        return request.width, request.height
    return max((request.width, request.height), hires_size(request, request.hires), key=math.prod)


def need(model: Any, width: int, height: int) -> int:
    """Bytes that one row of the UNet takes at least beside the weights, width and height in pixels."""
    unet = model.unet
    bytes_per_pixel = MAPS * unet.config.block_out_channels[0] * unet.dtype.itemsize + PIXELS
    return int(width // 8 * (height // 8) * bytes_per_pixel)


def check(model: Any, request: GenerateRequest, free: int) -> None:
    """
    Raises:
        DanqingError: `out_of_memory`, when not even one row at a time can fit into `free` bytes.
    """
    width, height = largest(request)
    wanted = need(model, width, height)
    if wanted > free:
        raise too_large(width, height, free / wanted)


def too_large(width: int, height: int, share: float) -> DanqingError:
    """The error that names the size of the same shape with this share of the pixels."""
    side = math.sqrt(share)
    fits_width, fits_height = (max(64, int(length * side) // 64 * 64) for length in (width, height))
    return DanqingError("out_of_memory", width=fits_width, height=fits_height, fits=1)
