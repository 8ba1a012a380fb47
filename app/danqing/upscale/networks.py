"""Runs upscaling networks: ESRGAN and its kin, DAT, SwinIR, ScuNET and whatever else spandrel knows by its tensors.

Files are scanned before they are read, and read as weights only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing import torchvision_shim as torchvision_shim  # before spandrel
from danqing.errors import DanqingError
from danqing.imaging.tiles import Tiling, combine, split, tiling
from danqing.library.header import read_header
from danqing.library.pickles import read_pickle
from danqing.upscale import diffusion

Pixels = np.ndarray[Any, Any]

KEPT = 2
"""Networks that stay in memory, the most recently used ones."""
LEAST_TILE = 64
"""Pixels: a picture that does not even fit in tiles of this side does not fit."""

_kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_lock = threading.Lock()


def run(path: Path, pixels: Pixels, tile: int, overlap: int, device: torch.device) -> Pixels:
    """`pixels` (h, w, 3) uint8 enlarged by the network in `path`: uint8 (scale * h, scale * w, 3), rounded.

    It is done in tiles of `tile` pixels a side that overlap by `overlap`; `tile` 0 does it in one piece. A picture smaller than
    a tile gets black at its left and top, as in the WebUI. Tiles shrink when the device's memory does not suffice.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`, `nan_picture`, `out_of_memory`.
    """
    network = loaded(path, device)
    side = tile
    while True:
        try:
            if path.is_dir():
                return diffusion.run(network, pixels, side, overlap)
            return _tiled(network, path, pixels, side, overlap, device)
        except torch.OutOfMemoryError:
            side = min(side or max(pixels.shape[:2]), *pixels.shape[:2]) // 2
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if side < LEAST_TILE:
                height, width = pixels.shape[:2]
                raise DanqingError("out_of_memory", width=width // 2, height=height // 2, fits=1) from None


def loaded(path: Path, device: torch.device) -> Any:
    """The network of a file on `device`, a spandrel `ImageModelDescriptor`, or a folder's pipeline; kept for the next call.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DanqingError("model_broken", name=path.name, reason=error.strerror or str(error)) from None
    key = (str(path), status.st_size, status.st_mtime_ns, str(device))
    with _lock:
        if key not in _kept:
            _kept[key] = diffusion.load(path, device) if path.is_dir() else _load(path, device)
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def forget() -> None:
    """Drop every network from memory."""
    with _lock:
        _kept.clear()


def _load(path: Path, device: torch.device) -> Any:
    from spandrel import ImageModelDescriptor, ModelLoader

    state = read_state(path)
    try:
        network = ModelLoader(device=device).load_from_state_dict(state)
    except Exception as error:  # spandrel's detectors raise whatever a strange table makes them raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DanqingError("model_broken", name=path.name, reason=reason) from error
    if not isinstance(network, ImageModelDescriptor):
        raise DanqingError("model_broken", name=path.name, reason="it is not a network that enlarges pictures")
    if network.output_channels not in (1, 3) or network.input_channels != network.output_channels:
        channels = f"it takes {network.input_channels} channels and gives {network.output_channels}"
        raise DanqingError("model_broken", name=path.name, reason=channels)
    half = device.type == "cuda" and network.supports_half
    return network.to(device, torch.float16 if half else torch.float32).eval()


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a file by name, on the CPU, nested as the file nests them.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        read_header(path)
        return dict(load_file(path))
    read_pickle(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no type for what it refuses
        raise DanqingError("model_broken", name=path.name, reason=str(error).splitlines()[0][:200]) from error
    if not isinstance(state, dict):
        raise DanqingError("model_broken", name=path.name, reason="it holds no table of weights")
    return dict(state)


def _tiled(network: Any, path: Path, pixels: Pixels, tile: int, overlap: int, device: torch.device) -> Pixels:
    height, width = pixels.shape[:2]
    if tile <= 0:
        return _forward(network, path, pixels, device)
    overlap = min(overlap, tile // 2)
    plan = tiling((width, height), (tile, tile), overlap)
    parts = [_forward(network, path, np.asarray(part), device) for part in split(Image.fromarray(pixels), plan)]
    factor = parts[0].shape[0] // tile
    larger = Tiling(
        (width * factor, height * factor),
        (plan.tile[0] * factor, plan.tile[1] * factor),
        overlap * factor,
        tuple(left * factor for left in plan.lefts),
        tuple(top * factor for top in plan.tops),
    )
    return np.asarray(combine([Image.fromarray(part) for part in parts], larger))


@torch.inference_mode()
def _forward(network: Any, path: Path, pixels: Pixels, device: torch.device) -> Pixels:
    """One forward. A network of one channel works on red, green and blue for themselves.

    The WebUI hands pictures over with blue first, whatever the network learnt from; so do we, for the same pixels.
    """
    planes = torch.from_numpy(pixels[:, :, ::-1].copy()).to(device).permute(2, 0, 1).to(network.dtype) / 255
    batch = planes[:, None] if network.input_channels == 1 else planes[None]
    result = _faces(network, batch) if network.purpose == "FaceSR" else network(batch).float()
    result = result[:, 0] if network.input_channels == 1 else result[0]
    if not bool(torch.isfinite(result).all()):
        raise DanqingError("nan_picture", name=path.name)
    bytes_ = (result.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(bytes_.permute(1, 2, 0).cpu().numpy()[:, :, ::-1])


def _faces(network: Any, batch: torch.Tensor) -> torch.Tensor:
    """A face restorer's forward: it learnt from red first, in -1..1, which spandrel leaves to its caller."""
    answer: torch.Tensor = network.model(batch.flip(1) * 2 - 1, randomize_noise=False)[0]
    return ((answer.float() + 1) / 2).flip(1)
