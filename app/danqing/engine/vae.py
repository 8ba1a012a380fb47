"""Runs the VAE: latents to pixels and back, in one piece while that fits into memory, else by strips (`strips.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from danqing.engine.calls import Decode, EncodeImage
from danqing.engine.memory import is_out_of_memory
from danqing.engine.strips import Strips
from danqing.errors import DanqingError

if TYPE_CHECKING:
    import numpy as np

STRIP = 512
"""Side in pixels of a square as large as a strip, where nothing else is asked for."""

MAPS = 5
"""Feature maps of the second level's width and the picture's size that a VAE holds at once when it works in one piece."""

SHARE = 0.6
"""Of the free memory that may be used."""

C = TypeVar("C", Decode, EncodeImage)

Coded = Callable[[Any, Literal["decode", "encode"], torch.Tensor], torch.Tensor | None]
"""A half of a VAE run by compiled code (`CompiledVaes.run`); None where it must run eagerly."""


def _eagerly(vae: Any, half: str, x: torch.Tensor) -> None:
    return None


def decode(
    calls: Sequence[Decode], device: torch.device, coded: Coded = _eagerly
) -> list[np.ndarray[Any, Any] | DanqingError]:
    """Pixels of every call, uint8 (8h, 8w, 3); an error in the place of a picture with NaN."""
    images = _by_vae(calls, lambda vae, rows: _decode_rows(vae, rows, device, coded))
    return [
        DanqingError("nan_picture", name=call.model.checkpoint.name) if image is None else _pixels(image)
        for call, image in zip(calls, images, strict=True)
    ]


def encode(calls: Sequence[EncodeImage], device: torch.device, coded: Coded = _eagerly) -> list[torch.Tensor]:
    """Scaled latents of every call, (4, h / 8, w / 8) float32: the posterior's mean, so that a seed gives one picture.

    Raises:
        DanqingError: `nan_picture`.
    """
    latents = _by_vae(calls, lambda vae, rows: _encode_rows(vae, rows, device, coded))
    answers: list[torch.Tensor] = []
    for call, latent in zip(calls, latents, strict=True):
        if latent is None:
            raise DanqingError("nan_picture", name=call.model.checkpoint.name)
        answers.append(latent * call.model.vae.config.scaling_factor)
    return answers


def _by_vae(
    calls: Sequence[C], run: Callable[[Any, Sequence[C]], list[torch.Tensor | None]]
) -> list[torch.Tensor | None]:
    """Calls of one checkpoint may be drawn with different VAEs; each VAE runs once."""
    answers: list[torch.Tensor | None] = [None] * len(calls)
    for vae in {id(call.model.vae): call.model.vae for call in calls}.values():
        places = [index for index, call in enumerate(calls) if call.model.vae is vae]
        for place, answer in zip(places, run(vae, [calls[place] for place in places]), strict=True):
            answers[place] = answer
    return answers


def _decode_rows(vae: Any, calls: Sequence[Decode], device: torch.device, coded: Coded) -> list[torch.Tensor | None]:
    latents = torch.stack([call.latent for call in calls]) / vae.config.scaling_factor
    height, width = latents.shape[-2:]
    tile = _tile(vae, calls[0], 8 * height, 8 * width, len(calls), device)

    def run(rows: torch.Tensor, tile: int) -> torch.Tensor:
        rows = rows.to(device, vae.dtype)
        if not tile:
            whole = coded(vae, "decode", rows)
            if whole is None:
                whole = vae.decode(rows, return_dict=False)[0]
            return whole.float().cpu()
        strips = Strips(vae, tile * tile, calls[0].tiling)
        return torch.cat([strips.decode(row[None]).float().cpu() for row in rows])

    return _finite(vae, run, latents, tile)


def _encode_rows(
    vae: Any, calls: Sequence[EncodeImage], device: torch.device, coded: Coded
) -> list[torch.Tensor | None]:
    images = torch.stack([call.pixels.permute(2, 0, 1) for call in calls])
    height, width = images.shape[-2:]
    tile = _tile(vae, calls[0], height, width, len(calls), device)

    def run(rows: torch.Tensor, tile: int) -> torch.Tensor:
        rows = rows.to(device, vae.dtype)
        if not tile:
            # Compiled code is made for whole eighths.
            whole = coded(vae, "encode", rows) if height % 8 == width % 8 == 0 else None
            if whole is None:
                whole = vae.encode(rows).latent_dist.mean
            return whole.float().cpu()
        strips = Strips(vae, tile * tile, calls[0].tiling)
        return torch.cat([strips.encode(row[None]).chunk(2, 1)[0].float().cpu() for row in rows])

    return _finite(vae, run, images, tile)


def _finite(
    vae: Any, run: Callable[[torch.Tensor, int], torch.Tensor], rows: torch.Tensor, tile: int
) -> list[torch.Tensor | None]:
    """Run rows; those that come out with NaN again with the VAE in float32, where it stays, for its numbers are too large for
    less; None for those that are no better then."""
    found = _within_memory(run, rows, tile)
    bad = [index for index, row in enumerate(found) if not bool(torch.isfinite(row).all())]
    if bad and vae.dtype != torch.float32:
        torch.nn.Module.to(vae, torch.float32)
        found[bad] = _within_memory(run, rows[bad], tile)
        bad = [index for index in bad if not bool(torch.isfinite(found[index]).all())]
    return [None if index in bad else row for index, row in enumerate(found)]


def _within_memory(run: Callable[[torch.Tensor, int], torch.Tensor], rows: torch.Tensor, tile: int) -> torch.Tensor:
    """In one piece or in strips as told; what does not fit after all goes in narrower strips."""
    for attempt in (tile, STRIP, STRIP // 4):
        try:
            return run(rows, attempt)
        except RuntimeError as error:
            if not is_out_of_memory(error) or attempt == STRIP // 4:
                raise
            if rows.device.type == "cuda" or torch.cuda.is_available():
                torch.cuda.empty_cache()
    raise AssertionError("unreachable")


def _tile(vae: Any, call: Decode | EncodeImage, height: int, width: int, rows: int, device: torch.device) -> int:
    """Side of a strip's square in pixels, 0 for one piece."""
    if call.tile:
        return call.tile if height * width > call.tile**2 or call.tiling else 0
    if call.tiling:
        return STRIP
    channels = vae.config.block_out_channels
    need = MAPS * channels[min(1, len(channels) - 1)] * height * width * rows * vae.dtype.itemsize
    return 0 if need < SHARE * free_memory(device) else STRIP


def free_memory(device: torch.device) -> int:
    """Bytes that may be taken on a device now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 8 * 2**30


def _pixels(image: torch.Tensor) -> np.ndarray[Any, Any]:
    """(3, H, W) in -1..1 as uint8 (H, W, 3), truncated."""
    scaled = ((image + 1) / 2).clamp(0, 1) * 255
    return scaled.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
