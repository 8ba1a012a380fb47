"""Image to image and inpainting: a picture in, its latent noised as far as the strength says, drawn anew (spec 13)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from danqing.engine import noise, passes
from danqing.engine.calls import Call, Work
from danqing.engine.enlarging import enlarged
from danqing.engine.guidance import EDIT_CHANNELS
from danqing.engine.hires import unit_pixels
from danqing.engine.passes import DEPTH_CHANNELS, INPAINT_CHANNELS, Scene, Stage
from danqing.engine.sampling import Blend, mask_blend
from danqing.errors import DanqingError
from danqing.imaging import colour, masks, resize, soft
from danqing.request import GenerateRequest, Inpaint

if TYPE_CHECKING:
    from danqing.engine.models import Model
    from danqing.imaging.masks import Box

Pixels = np.ndarray[Any, Any]
LATENT_RESIZE = 3
FILL_ORIGINAL, FILL_NOISE, FILL_NOTHING = 1, 2, 3


@dataclass(slots=True)
class Canvas:
    """A picture made ready. `mask` is what is repainted, at the size of `image`; `shown` is the part that the overlay leaves.

    `box`: where "only masked" cut `image` out of the original. `target`: what colour correction goes by.
    """

    image: Image.Image
    mask: Image.Image | None = None
    latent_mask: Image.Image | None = None
    shown: Image.Image | None = None
    over: Image.Image | None = None
    whole: Image.Image | None = None
    """The input picture before "only masked" cut into it."""
    box: Box | None = None
    target: Any = None


def canvas(
    request: GenerateRequest,
    image: Image.Image,
    mask: Image.Image | None,
    latent: Image.Image | None,
    cut: Image.Image | None = None,
) -> Canvas:
    """Input picture and mask as the pass wants them, upscalers apart. Blocks: it blurs and resizes.

    `cut`: what "only masked" cuts out of the picture, made larger by an upscaler.
    """
    made = Canvas(resize.flattened(image, request.options.img2img_background_color))
    if request.inpaint is not None and mask is not None:
        _mask(request, request.inpaint, made, mask)
    made.latent_mask = latent if latent is not None and made.mask is not None else made.mask
    if made.box is None and request.resize_mode != LATENT_RESIZE:
        made.image = resize.resize_image(request.resize_mode, made.image, request.width, request.height)
    if made.shown is not None:
        if made.shown.size != made.image.size:
            made.shown = resize.resize_image(_mask_mode(request), made.shown, *made.image.size)
        made.whole = made.image
        if request.options.overlay_inpaint:
            made.over = masks.overlay(made.image, made.shown)
    if made.box is not None:
        size = request.width, request.height
        made.image = (
            masks.cropped(made.image, made.box, *size) if cut is None else resize.placed(resize.FILL, cut, *size)
        )
    if made.latent_mask is not None and request.inpaint is not None and request.inpaint.fill != FILL_ORIGINAL:
        mask = made.latent_mask
        # A picture whose latent is resized has its own size still.
        same = mask.size == made.image.size
        made.image = masks.filled(made.image, mask if same else mask.resize(made.image.size))
    if request.options.img2img_color_correction:
        made.target = colour.target_of(made.image)
    return made


def _mask_mode(request: GenerateRequest) -> int:
    """Masks have no latent to be resized: there the WebUI fits and fills them."""
    return resize.FILL if request.resize_mode == LATENT_RESIZE else request.resize_mode


def _mask(request: GenerateRequest, inpaint: Inpaint, made: Canvas, mask: Image.Image) -> None:
    mask = masks.prepared(mask, inpaint.round, inpaint.invert, inpaint.blur_x, inpaint.blur_y)
    if not inpaint.only_masked:
        made.mask = resize.resize_image(_mask_mode(request), mask, request.width, request.height)
        made.shown = masks.whole_overlay_mask(made.mask)
        return
    made.box = masks.only_masked(mask.convert("L"), inpaint.padding, request.width, request.height)
    if made.box is not None:
        made.mask, made.shown = masks.cropped(mask.convert("L"), made.box, request.width, request.height), mask


def stage_of(request: GenerateRequest) -> Stage:
    """The pass, before its picture is there."""
    return replace(
        passes.first_stage(request),
        start=torch.zeros(4, request.height // 8, request.width // 8),
        denoising=0.75 if request.denoising_strength is None else request.denoising_strength,
        steps_given=request.options.img2img_fix_steps,
        noise_multiplier=request.options.initial_noise_multiplier,
    )


@dataclass(slots=True)
class Repainted:
    """What comes of a pass: the picture, and what it was before the original was laid over it."""

    pixels: Pixels
    canvas: Canvas
    model: Model
    bare: Image.Image


def image_to_image(scene: Scene) -> Generator[Call, Any, Repainted]:
    """Picture number `scene.index` of an img2img request.

    Raises:
        DanqingError: `unknown_picture`, `missing_picture`, and those of drawing.
    """
    request = scene.request
    stage = stage_of(request)
    hands = yield from passes.ready(scene, stage)
    made: Canvas = yield from _canvas(scene)
    if made.mask is None:  # there is nothing to inpaint: the WebUI tells no more of it than the mask's own blur
        for key in ("Inpaint area", "Masked area padding", "Masked content"):
            scene.pairs.pop(key, None)
    if hands.model.in_channels == EDIT_CHANNELS and request.image_cfg_scale != 1:
        scene.tell({"Image CFG scale": request.image_cfg_scale})
    pixels = unit_pixels(np.asarray(made.image))
    latent = yield from passes.encoded_image(scene, hands.model, pixels)
    if request.resize_mode == LATENT_RESIZE:
        latent = torch.nn.functional.interpolate(latent[None], size=stage.shape[1:], mode="bilinear")[0]
    latent, repaint = _masked(scene, made, latent)
    stage = replace(stage, start=latent, blend=_blend(request, latent, repaint))
    hands.guide.concat = yield from _concat(scene, hands.model, made, pixels, latent)
    result = yield from passes.sampled(scene, stage, hands)
    drawn = yield from passes.decoded(scene, hands.model, result)
    drawn = yield from passes.with_faces(scene, drawn)
    if request.inpaint is not None and request.inpaint.soft is not None and repaint is not None:
        yield Work(lambda: _soften(request, made, result, latent, repaint))
    image: Image.Image = yield Work(lambda: _corrected(made, drawn))
    if made.box is not None and made.over is not None and request.options.upscaler_for_img2img not in ("", "None"):
        left, top, right, bottom = made.box
        image = yield from _upscaled(scene, image, resize.CROP, (right - left, bottom - top))
    painted: Repainted = yield Work(lambda: _finished(made, image, hands.model))
    return painted


LEAST_SIDE, MOST_SIDE = 8, 65536
"""Pixels of a picture that is encoded as it is."""


def _canvas(scene: Scene) -> Generator[Call, Any, Canvas]:
    request, studio = scene.request, scene.studio
    if not request.init_images:
        raise DanqingError("missing_picture", field="init_images")
    name = request.init_images[scene.index % request.batch_size % len(request.init_images)]
    image = studio.image(name)
    inpaint = request.inpaint
    mask = studio.image(inpaint.mask) if inpaint is not None and inpaint.mask else None
    latent = studio.image(inpaint.latent_mask) if inpaint is not None and inpaint.latent_mask else None
    cut = None
    if request.options.upscaler_for_img2img not in ("", "None"):
        box: Box | None = yield Work(lambda: _box(request, mask))
        flat = resize.flattened(image, request.options.img2img_background_color)
        if box is not None:
            cut = yield from _upscaled(scene, flat.crop(box), resize.FILL, (request.width, request.height))
        elif request.resize_mode != LATENT_RESIZE:
            image = yield from _upscaled(scene, flat, request.resize_mode, (request.width, request.height))
    made: Canvas = yield Work(lambda: canvas(request, image, mask, latent, cut))
    side = min(made.image.size)
    if side < LEAST_SIDE:  # no latent can be made of it; where it is stretched before, it is large enough
        raise DanqingError("out_of_range", field="init_images (px)", value=side, minimum=LEAST_SIDE, maximum=MOST_SIDE)
    return made


def _box(request: GenerateRequest, mask: Image.Image | None) -> Box | None:
    """What "only masked" cuts out of a picture of the mask's size."""
    inpaint = request.inpaint
    if inpaint is None or mask is None or not inpaint.only_masked:
        return None
    mask = masks.prepared(mask, inpaint.round, inpaint.invert, inpaint.blur_x, inpaint.blur_y)
    return masks.only_masked(mask.convert("L"), inpaint.padding, request.width, request.height)


def _upscaled(scene: Scene, image: Image.Image, mode: int, size: tuple[int, int]) -> Generator[Call, Any, Image.Image]:
    """The picture at the size that a resize mode scales it to on its way to `size`; the rest is cut or filled later.

    By the option's upscaler where it grows.
    """
    options = scene.request.options
    inner = resize.inner_size(mode, image.size, *size)
    pixels = yield from enlarged(scene.studio, options, options.upscaler_for_img2img, np.asarray(image), *inner)
    return Image.fromarray(pixels)


def _masked(scene: Scene, made: Canvas, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The latent to begin from, and what of it is repainted (1, h, w)."""
    inpaint = scene.request.inpaint
    if made.latent_mask is None or inpaint is None:
        return latent, None
    _, height, width = latent.shape
    # Soft inpainting lives off the mask's grey values, whatever the request says of rounding.
    rounded = inpaint.round and inpaint.soft is None
    repaint = torch.from_numpy(masks.latent_mask(made.latent_mask, width, height, rounded))[None]
    if inpaint.fill == FILL_NOISE:
        # The WebUI makes the latents of a job once, for its first batch: every batch begins from the first one's noise.
        seed = replace(scene, index=scene.index % scene.request.batch_size).seed
        drawn = noise.PictureNoise(scene.request.rng, seed).first(tuple(latent.shape))
        latent = latent * (1 - repaint) + drawn * repaint
    elif inpaint.fill == FILL_NOTHING:
        latent = latent * (1 - repaint)
    return latent, repaint


def _blend(request: GenerateRequest, latent: torch.Tensor, repaint: torch.Tensor | None) -> Blend | None:
    if repaint is None or request.inpaint is None:
        return None
    gentle = request.inpaint.soft
    if gentle is None:
        return mask_blend(repaint, latent)
    kept, mask = latent.numpy(), repaint[0].numpy()

    def blend(drawn: torch.Tensor, sigma: float | None) -> torch.Tensor:
        # At the very end nothing is blended: the composite of the pixels does it.
        if sigma is None:
            return drawn
        return torch.from_numpy(soft.blended(drawn.cpu().numpy(), kept, mask, sigma, gentle)).to(drawn.device)

    return blend


def _concat(
    scene: Scene, model: Model, made: Canvas, pixels: torch.Tensor, latent: torch.Tensor
) -> Generator[Call, Any, torch.Tensor | None]:
    """What the model sees beside the latent: mask and the picture outside it, or the picture itself (spec 13.5)."""
    _, height, width = latent.shape
    if model.in_channels == INPAINT_CHANNELS:
        mask = torch.ones(1, *pixels.shape[:2])
        if made.mask is not None and scene.request.inpaint is not None:
            mask = torch.from_numpy(np.asarray(made.mask.convert("L")).astype(np.float32) / 255)[None]
            mask = mask.round() if scene.request.inpaint.round else mask
        weight = scene.request.options.inpainting_mask_weight
        scene.tell({"Conditional mask weight": weight})
        outside = yield from passes.encoded_image(scene, model, pixels * (1 - mask[0] * weight)[..., None])
        outside = _fitted(outside, height, width)
        small = torch.nn.functional.interpolate(mask[None], size=(height, width))[0]
        return torch.cat([small, outside])
    if model.in_channels == EDIT_CHANNELS:
        shown = yield from passes.encoded_image(scene, model, pixels)
        return _fitted(shown / model.vae.config.scaling_factor, height, width)
    if model.in_channels == DEPTH_CHANNELS:
        return (yield from passes.blank_concat(scene, model, stage_of(scene.request)))
    return None


def _soften(
    request: GenerateRequest, made: Canvas, result: torch.Tensor, latent: torch.Tensor, repaint: torch.Tensor
) -> None:
    """Lay over the result only what the sampler has left alone."""
    gentle = request.inpaint.soft if request.inpaint is not None else None
    if made.whole is None or gentle is None:
        return
    size = request.width, request.height
    mask = soft.composite_mask(result.numpy(), latent.numpy(), repaint[0].numpy(), *size, gentle)
    made.shown = mask if made.box is None else soft.uncropped(mask, made.box, made.whole.size)
    if request.options.overlay_inpaint:
        made.over = masks.overlay(made.whole, made.shown)


def _fitted(latent: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if tuple(latent.shape[1:]) == (height, width):
        return latent
    return torch.nn.functional.interpolate(latent[None], size=(height, width), mode="bilinear")[0]


def _corrected(made: Canvas, drawn: Pixels) -> Image.Image:
    image = Image.fromarray(drawn)
    return image if made.target is None else colour.corrected(image, made.target)


def _finished(made: Canvas, image: Image.Image, model: Model) -> Repainted:
    bare = image if made.box is None or made.over is None else masks.pasted_back(image, made.box, made.over.size)
    image = masks.composed(image, made.over, made.box)
    return Repainted(np.asarray(image.convert("RGB")), made, model, bare)
