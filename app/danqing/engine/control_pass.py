"""The control units of a request made ready for one pass: their pictures become maps, their files networks."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from danqing.engine.calls import Call, Work
from danqing.engine.control import NetHint, Units, layer_weights
from danqing.engine.control_rows import Hint
from danqing.errors import DanqingError
from danqing.imaging import control_maps, masks
from danqing.request import ControlUnit, GenerateRequest, Inpaint

if TYPE_CHECKING:
    from danqing.engine.models import Model
    from danqing.engine.passes import Scene, Stage

Pixels = np.ndarray[Any, Any]

MODES = {0: control_maps.STRETCH, 1: control_maps.CROP, 2: control_maps.FILL, 3: control_maps.STRETCH}
"""A unit without a picture of its own takes the input picture, and with it the resize mode of image to image."""

MASKED = -1.0
"""What an inpainting ControlNet sees where the picture is to be painted."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a unit's picture became. `pixels`: (3, H, W) float32. `shown`: the map as people see it, (H, W, 3) uint8."""

    pixels: torch.Tensor
    shown: Pixels


def acts(unit: ControlUnit, hires: bool, has_hires: bool) -> bool:
    """Whether the unit takes part in a pass."""
    if not has_hires:
        return True
    return unit.hr_option == "Both" or (unit.hr_option == "High res only") == hires


def maps_of(request: GenerateRequest) -> int:
    """Maps that a request hands out beside its pictures: one for every unit and pass."""
    passes = (False, True) if request.kind == "txt2img" and request.hires is not None else (False,)
    return sum(
        unit.save_detected_map for hires in passes for unit in request.control if acts(unit, hires, len(passes) > 1)
    )


def units(scene: Scene, stage: Stage, model: Model) -> Generator[Call, Any, Units | None]:
    """The units of a pass; the first picture of a job shows their maps.

    Raises:
        DanqingError: `control_without_picture`, `unknown_control`, and those of the networks and preprocessors.
    """
    request = scene.request
    has_hires = request.kind == "txt2img" and request.hires is not None
    rows: list[tuple[ControlUnit, Hint]] = []
    for number, unit in enumerate(request.control):
        if not acts(unit, stage.hires, has_hires):
            continue
        control = scene.studio.controls.find(unit.model)
        made: Made = yield Work(_maker(scene, stage, number, unit))
        net = yield Work(partial(scene.studio.control_store.get, control, model))
        rows.append((unit, NetHint(net, made.pixels, layer_weights(unit, net.outputs))))
        if unit.save_detected_map:
            scene.maps.append(made.shown)
    return Units(rows) if rows else None


def _maker(scene: Scene, stage: Stage, number: int, unit: ControlUnit) -> Any:
    return lambda: scene.studio.remembered(
        (unit, stage.width, stage.height, scene.request.init_images, scene.request.inpaint, scene.request.seed),
        lambda: _made(scene, stage, number, unit),
    )


def _made(scene: Scene, stage: Stage, number: int, unit: ControlUnit) -> Made:
    from danqing.control import catalog, maps

    width, height = stage.width // 8 * 8, stage.height // 8 * 8
    image, mask, mode = _picture(scene, number, unit)
    row = catalog.find(unit.module)
    settings = catalog.settings_of(row, unit.processor_res, unit.threshold_a, unit.threshold_b)
    resolution = settings.resolution
    if unit.pixel_perfect:
        resolution = maps.pixel_perfect_resolution(image.shape[:2], (height, width), mode)
    found = maps.detect(
        scene.studio.data,
        row.name,
        image,
        resolution=resolution,
        a=settings.a,
        b=settings.b,
        mask=mask,
        seed=scene.request.seed,
    )
    shown = control_maps.fitted(found, mode, width, height)
    pixels = torch.from_numpy(np.array(shown)).float().permute(2, 0, 1) / 255
    if row.name.startswith("inpaint") and mask is not None:
        pixels = _with_hole(pixels, mask, mode, width, height)
    return Made(pixels, shown)


def _with_hole(pixels: torch.Tensor, mask: Pixels, mode: str, width: int, height: int) -> torch.Tensor:
    hole = control_maps.fitted(np.stack([mask] * 3, axis=2), mode, width, height)[..., 0] > 127
    return torch.where(torch.from_numpy(hole)[None], torch.tensor(MASKED), pixels)


def _picture(scene: Scene, number: int, unit: ControlUnit) -> tuple[Pixels, Pixels | None, str]:
    """The unit's picture (h, w, 3 or 4), its mask (h, w) if any, and the resize mode that applies."""
    request, studio = scene.request, scene.studio
    mode: str = unit.resize_mode
    mask = np.asarray(studio.image(unit.mask).convert("L")) if unit.mask else None
    if unit.image:
        image = studio.image(unit.image)
    elif request.init_images:
        name = request.init_images[scene.index % request.batch_size % len(request.init_images)]
        image, mode = studio.image(name), MODES[request.resize_mode]
        if mask is None and request.inpaint is not None and request.inpaint.mask:
            mask = np.asarray(_own_mask(studio.image(request.inpaint.mask), request.inpaint))
            image = _cropped(image, mask, unit, request)
            mask = np.asarray(_cropped(Image.fromarray(mask), mask, unit, request))
    else:
        raise DanqingError("control_without_picture", unit=number)
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    if mask is not None and mask.shape != (image.height, image.width):
        mask = np.asarray(Image.fromarray(mask).resize(image.size))
    return np.asarray(image), mask, mode


def _own_mask(mask: Image.Image, inpaint: Inpaint) -> Image.Image:
    return masks.prepared(mask, inpaint.round, inpaint.invert, inpaint.blur_x, inpaint.blur_y).convert("L")


def _cropped(image: Image.Image, mask: Pixels, unit: ControlUnit, request: GenerateRequest) -> Image.Image:
    """The part that "only masked" draws, where the unit follows the crop."""
    inpaint = request.inpaint
    if inpaint is None or not inpaint.only_masked or not unit.inpaint_crop_input_image:
        return image
    box = masks.only_masked(Image.fromarray(mask), inpaint.padding, request.width, request.height)
    return image if box is None else image.crop(box)
