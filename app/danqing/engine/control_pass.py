"""The control units of a request made ready for one pass: their pictures become maps, their files networks."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from danqing.control import catalog, maps, plain
from danqing.engine import image_encoder
from danqing.engine.calls import Call, EncodeImage, Work
from danqing.engine.colour_fix import ColourFix
from danqing.engine.control import NetHint, UnionNet, Units, layer_weights
from danqing.engine.control_rows import Hint
from danqing.engine.image_prompts import ImageHint, ImagePrompter
from danqing.engine.reference import ReferenceHint
from danqing.engine.t2i import Adapter, FeatureHint
from danqing.errors import DanqingError
from danqing.imaging import control_maps, masks
from danqing.library.controls import NONE, Control
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
    seen: dict[str, list[Any]] = field(default_factory=dict)
    """What each network's hint encoder made of it, for all pictures of a job."""


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
    found = Units([])
    for number, unit in enumerate(request.control):
        if not acts(unit, stage.hires, has_hires):
            continue
        unit_of = Unit(scene, stage, model, number, unit)
        if unit_of.row.how == "absent":
            maps.known(unit_of.row.name)
        if unit_of.row.name.startswith("reference_"):
            hint, shown = yield from _reference(unit_of)
        else:
            hint, shown = yield from _by_model(unit_of)
        found.rows.append((unit, hint))
        if unit_of.row.name.startswith("tile_colorfix"):
            found.fixes.append((unit, (yield from _colour_fix(unit_of))))
        if unit.save_detected_map:
            scene.maps.append(shown)
    return found if found.rows else None


def check_refiner(request: GenerateRequest, model: Model, refiner: Model) -> None:
    """Whether the control models of `model` can go on beside the checkpoint that takes over.

    Raises:
        DanqingError: `control_misfit`: nothing is drawn without the control it asked for.
    """
    names = [unit.model for unit in request.control if unit.model != NONE]
    if names and model.architecture.unet != refiner.architecture.unet:
        reason = f"its refiner has another shape than {model.checkpoint.name}"
        raise DanqingError("control_misfit", name=", ".join(names), model=refiner.checkpoint.name, reason=reason)


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of one pass."""

    scene: Scene
    stage: Stage
    model: Model
    number: int
    unit: ControlUnit

    @property
    def row(self) -> catalog.Row:
        """The preprocessor."""
        return catalog.find(self.unit.module)

    @property
    def values(self) -> catalog.Values:
        """What the preprocessor runs with."""
        return catalog.settings_of(self.row, self.unit.processor_res, self.unit.threshold_a, self.unit.threshold_b)

    @property
    def key(self) -> tuple[Any, ...]:
        """What its picture is made from."""
        request, stage = self.scene.request, self.stage
        return self.unit, stage.width, stage.height, request.init_images, request.inpaint, request.seed

    def made(self) -> Made:
        """The map, made for the first picture of a job."""
        return self.scene.studio.remembered(self.key, lambda: _made(self.scene, self.stage, self.number, self.unit))

    def latent(self, pixels: torch.Tensor) -> Call:
        """The call for the latent of pixels (3, H, W) in 0..1."""
        options, tiling = self.scene.request.options, self.scene.request.tiling
        return EncodeImage(self.model, pixels.permute(1, 2, 0) * 2 - 1, tiling, options.vae_tile)


def _by_model(unit: Unit) -> Generator[Call, Any, tuple[Hint, Pixels]]:
    """The hint of a unit with a control model, and the map that people see."""
    studio = unit.scene.studio
    control = studio.controls.find(unit.unit.model)
    made = None if unit.row.how == "vision" else (yield Work(unit.made))
    net = yield Work(partial(studio.control_store.get, control, unit.model))
    weights = layer_weights(unit.unit, net.outputs)
    if isinstance(net, ImagePrompter):
        return (yield from _image_prompt(unit, net, weights))
    if made is None:
        raise DanqingError("preprocessor_without_map", name=unit.row.name)
    seen = made.seen.setdefault(net.key, [])
    if isinstance(net, Adapter):
        return FeatureHint(net, made.pixels, weights, seen), made.shown
    task = task_of(control, unit.unit, net) if isinstance(net, UnionNet) else 0
    return NetHint(net, made.pixels, weights, seen, task), made.shown


def _image_prompt(
    unit: Unit, net: ImagePrompter, weights: tuple[float, ...]
) -> Generator[Call, Any, tuple[Hint, Pixels]]:
    studio, model = unit.scene.studio, unit.model

    def read() -> tuple[Any, Pixels]:
        file = image_encoder.find_encoder(studio.data, unit.unit.model, net.width, net.hidden)
        device, dtype = model.unet.device, model.unet.dtype
        encoder = studio.control_store.kept(
            f"{file.key}:{device}:{dtype}", lambda: image_encoder.load_encoder(file, device, dtype)
        )
        pixels, _, _ = _picture(unit.scene, unit.number, unit.unit)
        picture = Image.fromarray(plain.rgb(pixels))
        return net.tokens(encoder, picture), np.asarray(image_encoder.clip_square(picture, encoder.side))

    (tokens, nothing), shown = yield Work(lambda: studio.remembered((*unit.key, net.key), read))
    return ImageHint(net, tokens, nothing, weights), shown


def _reference(unit: Unit) -> Generator[Call, Any, tuple[Hint, Pixels]]:
    made: Made = yield Work(unit.made)
    latent = yield unit.latent(made.pixels)
    name, mode = unit.row.name, unit.unit.control_mode
    fidelity = {"My prompt is more important": 0.0, "ControlNet is more important": 1.0}.get(mode, unit.values.a)
    hint = ReferenceHint(
        latent,
        attends=name != "reference_adain",
        adain="adain" in name,
        fidelity=fidelity,
        seed=unit.scene.seed,
        weights=(unit.unit.weight,),
    )
    return hint, made.shown


def _colour_fix(unit: Unit) -> Generator[Call, Any, ColourFix]:
    made: Made = yield Work(unit.made)
    latent = yield unit.latent(made.pixels)
    sharpness = unit.values.b if unit.row.name.endswith("+sharp") else 0.0
    return ColourFix(latent, unit.values.a, sharpness, min(1.0, max(0.0, unit.unit.weight)))


TASKS = (
    ("OpenPose",),
    ("Depth",),
    ("SoftEdge", "Scribble"),
    ("Canny", "Lineart", "MLSD"),
    ("NormalMap",),
    ("Segmentation",),
    ("Tile",),
    ("Inpaint",),
)
"""Control types by the number that a ControlNet union knows them by."""


def task_of(control: Control, unit: ControlUnit, net: UnionNet) -> int:
    """The kind of map that a union is told: the unit's own word, else its preprocessor's.

    Raises:
        DanqingError: `control_type_unknown`, with the kinds that there are.
    """
    stated = unit.union_control_type
    kinds = (stated,) if stated != "Unknown" else catalog.find(unit.module).types
    for number, names in enumerate(TASKS[: net.tasks]):
        if any(kind in names for kind in kinds):
            return number
    known = ", ".join(name for names in TASKS[: net.tasks] for name in names)
    raise DanqingError("control_type_unknown", name=control.name, kind=stated, known=known)


def _made(scene: Scene, stage: Stage, number: int, unit: ControlUnit) -> Made:
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
