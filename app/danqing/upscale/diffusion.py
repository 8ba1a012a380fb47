"""Diffusion upscalers: Stable Diffusion x4 and the latent x2, from folders in diffusers' layout.

Both draw what the picture lacks instead of sharpening what is there (Rombach et al. 2022, https://arxiv.org/abs/2112.10752). They
run without words, with the same noise every time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing import torchvision_shim as torchvision_shim  # before diffusers
from danqing.errors import DanqingError
from danqing.imaging.tiles import Tiling, combine, split, tiling
from danqing.upscale.catalog import DIFFUSION, INDEX

Pixels = np.ndarray[Any, Any]

LIBRARIES = ("diffusers", "transformers", None)
"""Where the parts of a pipeline may come from; None is a part that is left out."""

STEPS = 20
MULTIPLE = 64
"""Sides of a tile are whole multiples of this, in pixels: both networks halve what they see several times."""
LEAST_OVERLAP = 16
"""Pixels: two tiles are drawn apart and have to agree somewhere."""
NOISE_LEVEL = 20
"""How much noise the x4 upscaler lays on its input, 0 to 350; the model card's choice."""


def load(folder: Path, device: torch.device) -> Any:
    """The pipeline of a folder, weights from `.safetensors` only.

    Raises:
        DanqingError: `model_broken`.
    """
    import diffusers

    try:
        name = checked_class(json.loads((folder / INDEX).read_text("utf-8")))
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        pipeline = getattr(diffusers, name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
    except Exception as error:  # a damaged folder makes diffusers raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DanqingError("model_broken", name=folder.name, reason=reason) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def checked_class(index: dict[str, Any]) -> str:
    """The pipeline's class, when the folder names an upscaler whose parts are all of diffusers and transformers.

    Raises:
        ValueError: otherwise; diffusers would import whatever module a folder names.
    """
    name = str(index["_class_name"])
    if name not in DIFFUSION:
        raise ValueError(f"{name} is no upscaler")
    for part, value in index.items():
        if isinstance(value, list) and (len(value) != 2 or value[0] not in LIBRARIES):
            raise ValueError(f"its {part} is of {value[:1]}")
    return name


def run(pipeline: Any, pixels: Pixels, tile: int, overlap: int) -> Pixels:
    """`pixels` (h, w, 3) uint8, four or two times as large, drawn in tiles of about `tile` pixels (0: in one piece)."""
    height, width = pixels.shape[:2]
    side = max(MULTIPLE, tile // MULTIPLE * MULTIPLE)
    wanted = (_up(width), _up(height)) if tile <= 0 else (min(side, _up(width)), min(side, _up(height)))
    padding = ((0, max(0, wanted[1] - height)), (0, max(0, wanted[0] - width)), (0, 0))
    whole = Image.fromarray(np.pad(pixels, padding, mode="edge"))
    plan = tiling(whole.size, wanted, min(max(overlap, LEAST_OVERLAP), min(wanted) // 2))
    parts = [_drawn(pipeline, part) for part in split(whole, plan)]
    factor = parts[0].width // wanted[0]
    larger = Tiling(
        (whole.width * factor, whole.height * factor),
        (wanted[0] * factor, wanted[1] * factor),
        plan.overlap * factor,
        tuple(left * factor for left in plan.lefts),
        tuple(top * factor for top in plan.tops),
    )
    return np.asarray(combine(parts, larger))[: height * factor, : width * factor]


def _up(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE


@torch.inference_mode()
def _drawn(pipeline: Any, part: Image.Image) -> Image.Image:
    options = {"noise_level": NOISE_LEVEL} if "low_res_scheduler" in pipeline.components else {}
    # On the CPU, so that every device draws the same noise. Scale 0: the empty prompt needs no guidance.
    generator = torch.Generator("cpu").manual_seed(0)
    result: Image.Image = pipeline(
        prompt="", image=part, num_inference_steps=STEPS, guidance_scale=0.0, generator=generator, **options
    ).images[0]
    return result
