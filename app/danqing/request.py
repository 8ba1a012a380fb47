"""One request to draw, as every door builds it: the API's JSON, the page, the CLI and a pasted infotext.

A `GenerateRequest` is frozen and checked once, at the edge, by `checked`.
Its infotext and the batch key are functions of it.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from danqing.errors import DanqingError
from danqing.options import DrawOptions, Unit
from danqing.settings import Setting, Settings

RANDOM_SEED_MAX = 4294967293
"""Largest seed that a request for a random one (-1) gets, as in the WebUI."""

SEED_LIMIT = 2**63 - 1

CHOICE_AUTOMATIC = "Automatic"

LIMITS: tuple[Setting, ...] = (
    Setting("limit_side", 4096, "Longest side of a picture, in pixels.", "图片最长边（像素）。", 64, 65536),
    Setting("limit_pixels", 2048 * 2048 * 2, "Most pixels in one picture.", "单张图片的最大像素数。", 4096, 2**31),
    Setting("limit_steps", 150, "Most sampling steps.", "最多采样步数。", 1, 10000),
    Setting("limit_batch", 16, "Most pictures in one batch.", "每批最多图片数。", 1, 1024),
    Setting(
        "limit_images", 256, "Most pictures in one job (batches times batch size).", "每个任务最多图片数。", 1, 65536
    ),
    Setting(
        "limit_prompt", 20000, "Most characters in a prompt or a negative prompt.", "提示词的最多字符数。", 16, 10**7
    ),
)


Finite = Annotated[float, Field(allow_inf_nan=False)]
Image = Annotated[str, Field(pattern=r"^(|[0-9a-f]{64})$")]
"""An input picture: the sha256 of its PNG under DATA/inputs, "" for none. See `input_path`."""


class Part(BaseModel):
    """A part of a request: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hires(Part):
    """Hires fix: a second pass over the enlarged first one.

    With both `resize_x` and `resize_y` 0 the size is multiplied by `scale`; one of them 0 follows the other. `steps` 0 means
    as many as the first pass; an empty name means the first pass's, an empty upscaler "Latent".
    """

    scale: Annotated[float, Field(ge=0.1, le=16, allow_inf_nan=False)] = 2.0
    resize_x: Annotated[int, Field(ge=0, le=65536)] = 0
    resize_y: Annotated[int, Field(ge=0, le=65536)] = 0
    upscaler: str = "Latent"
    steps: Annotated[int, Field(ge=0, le=10000)] = 0
    checkpoint: str = ""
    sampler: str = ""
    scheduler: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    first_pass: Image = ""
    """A picture that stands for the first pass ("upscale this result")."""


class SoftInpainting(Part):
    """Soft inpainting: the mask's grey values blend latents and pixels gradually."""

    power: Annotated[float, Field(ge=0, le=8, allow_inf_nan=False)] = 1.0
    scale: Annotated[float, Field(ge=0, le=8, allow_inf_nan=False)] = 0.5
    detail: Annotated[float, Field(ge=1, le=32, allow_inf_nan=False)] = 4.0
    mask_influence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    difference_threshold: Annotated[float, Field(ge=0, le=8, allow_inf_nan=False)] = 0.5
    difference_contrast: Annotated[float, Field(ge=0, le=8, allow_inf_nan=False)] = 2.0


class Inpaint(Part):
    """Which part of the input picture is painted anew. White in `mask` is repainted; blurs are in pixels.

    `fill`: 0 from the surroundings, 1 the original, 2 latent noise, 3 latent nothing.
    """

    mask: Image
    latent_mask: Image = ""
    blur_x: Annotated[int, Field(ge=0, le=512)] = 4
    blur_y: Annotated[int, Field(ge=0, le=512)] = 4
    round: bool = True
    fill: Literal[0, 1, 2, 3] = 1
    only_masked: bool = False
    padding: Annotated[int, Field(ge=0, le=4096)] = 0
    invert: bool = False
    soft: SoftInpainting | None = None


class ControlUnit(Part):
    """One ControlNet unit. `module` and `model` are resolved names; `image` "" takes the input picture of image to image.

    `processor_res`, `threshold_a`, `threshold_b`: -1 is the preprocessor's own default. Guidance start and end are shares of the
    denoiser's calls.
    """

    module: str = "none"
    model: str = "None"
    weight: Annotated[float, Field(ge=-2, le=4, allow_inf_nan=False)] = 1.0
    image: Image = ""
    mask: Image = ""
    resize_mode: Literal["Just Resize", "Crop and Resize", "Resize and Fill"] = "Crop and Resize"
    processor_res: Annotated[int, Field(ge=-1, le=8192)] = -1
    threshold_a: Finite = -1.0
    threshold_b: Finite = -1.0
    guidance_start: Unit = 0.0
    guidance_end: Unit = 1.0
    control_mode: Literal["Balanced", "My prompt is more important", "ControlNet is more important"] = "Balanced"
    pixel_perfect: bool = False
    inpaint_crop_input_image: bool = True
    hr_option: Literal["Both", "Low res only", "High res only"] = "Both"
    save_detected_map: bool = True
    low_vram: bool = False
    advanced_weighting: tuple[Finite, ...] | None = None
    union_control_type: str = "Unknown"
    """What kind of map a ControlNet union is shown; "Unknown": the preprocessor's."""


class StyleTexts(Part):
    """What a style says of each prompt."""

    prompt: str = ""
    negative_prompt: str = ""


class Script(Part):
    """A selectable script. `args` are its arguments by name, checked by the script itself.

    `styles` are put to the prompts of every picture that it asks for, when these are made; `shelf` holds those that an axis of
    a plot may name.
    """

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    styles: tuple[StyleTexts, ...] = ()
    shelf: dict[str, StyleTexts] = Field(default_factory=dict)


class Extras(Part):
    """Upscaling and restoring finished pictures. `resize_mode` 0 multiplies by `resize`, 1 goes to `width` x `height`."""

    resize_mode: Literal[0, 1] = 0
    resize: Annotated[float, Field(ge=0.1, le=16, allow_inf_nan=False)] = 2.0
    width: Annotated[int, Field(ge=1, le=65536)] = 512
    height: Annotated[int, Field(ge=1, le=65536)] = 512
    crop: bool = True
    max_side: Annotated[int, Field(ge=0, le=65536)] = 0
    upscaler_1: str = "None"
    upscaler_2: str = "None"
    upscaler_2_visibility: Unit = 0.0
    gfpgan_visibility: Unit = 0.0
    codeformer_visibility: Unit = 0.0
    codeformer_weight: Unit = 0.0
    upscale_first: bool = False


class GenerateRequest(BaseModel):
    """What to draw. All doors fill the same fields; names are the field's own.

    Sizes are in pixels; the latent is `floor(size / 8)`. `seed` and `subseed` -1 mean random and are replaced by `resolved`
    before the request is stored, so that a job drawn again after a restart gives the same picture. `model` is a title, name or
    hash from the library; "" is the box's default. `eta` and `s_*` None are the sampler's own defaults; `s_tmax` 0 is infinity.
    `rng` says whose random numbers make the noise: torch's CPU generator, or an NVIDIA GPU's ("GPU" and "NV" are the same here:
    every device draws them alike). Styles are already part of the prompts, but where a script makes prompts of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)

    kind: Literal["txt2img", "img2img", "extras", "train"] = "txt2img"
    prompt: str = ""
    negative_prompt: str = ""
    sampler: str = "DPM++ 2M"
    scheduler: str = CHOICE_AUTOMATIC
    steps: int = 20
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    seed: int = -1
    batch_size: int = 1
    n_iter: int = 1
    model: str = ""
    clip_skip: int = 1
    eta: float | None = None
    rng: Literal["GPU", "NV", "CPU"] = "GPU"

    subseed: int = -1
    subseed_strength: Unit = 0.0
    seed_resize_from_w: int = 0
    seed_resize_from_h: int = 0
    tiling: bool = False
    restore_faces: bool = False
    disable_extra_networks: bool = False
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    s_min_uncond: float = 0.0
    refiner_checkpoint: str = ""
    refiner_switch_at: Unit = 1.0
    denoising_strength: Unit | None = None
    hires: Hires | None = None

    init_images: tuple[Image, ...] = ()
    resize_mode: Literal[0, 1, 2, 3] = 0
    """0 stretch, 1 crop, 2 fill, 3 stretch the latent."""
    image_cfg_scale: float = 1.5
    inpaint: Inpaint | None = None

    control: tuple[ControlUnit, ...] = ()
    script: Script | None = None
    extras: Extras | None = None
    training: Annotated[str, Field(pattern=r"^(|[0-9a-f]{16})$")] = ""
    """Of a training, the folder below DATA/training that says all about it; the prompt is then its name."""
    options: DrawOptions = DrawOptions()
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arguments of plug-ins' always-on scripts, by the script's name in lower case and the box's name."""

    @property
    def image_count(self) -> int:
        """Pictures that the job makes: batches times batch size."""
        return self.n_iter * self.batch_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input pictures that the request names, each once."""
        found = [*self.init_images]
        if self.inpaint is not None:
            found += [self.inpaint.mask, self.inpaint.latent_mask]
        if self.hires is not None:
            found.append(self.hires.first_pass)
        for unit in self.control:
            found += [unit.image, unit.mask]
        return tuple(dict.fromkeys(image for image in found if image))

    def resolved(self, rng: random.Random | None = None) -> GenerateRequest:
        """The same request with random seeds in place of negative ones."""
        source = rng or random.SystemRandom()
        drawn = {name: source.randint(0, RANDOM_SEED_MAX) for name in ("seed", "subseed") if getattr(self, name) < 0}
        return self.model_copy(update=drawn) if drawn else self


def input_path(data: Path, image: str) -> Path:
    """Where the input picture with this sha256 lies under the data root.

    Raises:
        DanqingError: `unknown_picture`, for what is no such name.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", image):
        raise DanqingError("unknown_picture", picture=image[:64])
    return data / "inputs" / image[:2] / f"{image}.png"


@dataclass(frozen=True, slots=True)
class _Bound:
    field: str
    low: float
    high: float


def parsed(fields: dict[str, Any]) -> GenerateRequest:
    """A request from loose fields, types checked but not yet bounds.

    Raises:
        DanqingError: `invalid_field` names the first field that does not fit.
    """
    try:
        return GenerateRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "request"
        raise DanqingError("invalid_field", field=where, reason=first["msg"]) from None


def checked(request: GenerateRequest, limits: Settings) -> GenerateRequest:
    """`request`, when every field lies within the limits.

    Raises:
        DanqingError: `out_of_range`, `not_a_number`, `not_multiple`, `too_many_pixels`, `too_many_images`, `text_too_long`
            or `broken_text`, with the limit in its parameters. Names of samplers, schedules and models are checked by
            those who know them.
    """
    side = limits.get_int("limit_side")
    for bound in (
        _Bound("width", 8, side),
        _Bound("height", 8, side),
        _Bound("steps", 1, limits.get_int("limit_steps")),
        _Bound("cfg_scale", -100, 100),
        _Bound("seed", -1, SEED_LIMIT),
        _Bound("batch_size", 1, limits.get_int("limit_batch")),
        _Bound("n_iter", 1, limits.get_int("limit_images")),
        _Bound("clip_skip", 1, 12),
        _Bound("eta", 0, 10),
        _Bound("subseed", -1, SEED_LIMIT),
        _Bound("seed_resize_from_w", -1, side),
        _Bound("seed_resize_from_h", -1, side),
        _Bound("s_churn", 0, 1000),
        _Bound("s_tmin", 0, 1000),
        _Bound("s_tmax", 0, 1e9),
        _Bound("s_noise", 0, 10),
        _Bound("s_min_uncond", 0, 1000),
        _Bound("image_cfg_scale", -100, 100),
    ):
        _check_number(request, bound)
    if request.width * request.height > limits.get_int("limit_pixels"):
        raise DanqingError(
            "too_many_pixels", width=request.width, height=request.height, maximum=limits.get_int("limit_pixels")
        )
    if request.image_count > limits.get_int("limit_images"):
        raise DanqingError("too_many_images", count=request.image_count, maximum=limits.get_int("limit_images"))
    for field in ("prompt", "negative_prompt"):
        _check_text(field, getattr(request, field), limits.get_int("limit_prompt"))
    if request.hires is not None:
        _check_hires(request, request.hires, limits)
    for field in ("sampler", "scheduler", "model"):
        _check_text(field, getattr(request, field), 500)
    return request


def hires_size(request: GenerateRequest, hires: Hires) -> tuple[int, int]:
    """Width and height of the second pass in pixels, before cropping to a target of another shape (spec 12)."""
    if not hires.resize_x and not hires.resize_y:
        return int(request.width * hires.scale), int(request.height * hires.scale)
    if not hires.resize_y:
        return hires.resize_x, hires.resize_x * request.height // request.width
    if not hires.resize_x:
        return hires.resize_y * request.width // request.height, hires.resize_y
    if request.width / request.height < hires.resize_x / hires.resize_y:
        return hires.resize_x, hires.resize_x * request.height // request.width
    return hires.resize_y * request.width // request.height, hires.resize_y


def old_first_size(width: int, height: int) -> tuple[int, int]:
    """The first pass of a picture of this size before hires fix had a factor: about 512 squared, sides in whole 64s."""
    scale = math.sqrt(512 * 512 / max(width * height, 1))
    return math.ceil(scale * width / 64) * 64, math.ceil(scale * height / 64) * 64


def with_old_hires(request: GenerateRequest) -> GenerateRequest:
    """Under the option use_old_hires_fix_width_height the size that was asked for is that of the second pass."""
    if request.hires is None or not request.options.use_old_hires_fix_width_height:
        return request
    width, height = old_first_size(request.width, request.height)
    hires = request.hires.model_copy(update={"resize_x": request.width, "resize_y": request.height})
    return request.model_copy(update={"width": width, "height": height, "hires": hires})


def _check_hires(request: GenerateRequest, hires: Hires, limits: Settings) -> None:
    width, height = hires_size(request, hires)
    most, side = limits.get_int("limit_pixels"), limits.get_int("limit_side")
    for field, value in (("hires width", width), ("hires height", height)):
        if not 8 <= value <= side:
            raise DanqingError("out_of_range", field=field, value=value, minimum=8, maximum=side)
    if width * height > most:
        raise DanqingError("too_many_pixels", width=width, height=height, maximum=most)
    if hires.steps > limits.get_int("limit_steps"):
        raise DanqingError(
            "out_of_range", field="hires steps", value=hires.steps, minimum=0, maximum=limits.get_int("limit_steps")
        )
    for field in ("prompt", "negative_prompt"):
        _check_text(f"hires {field}", getattr(hires, field), limits.get_int("limit_prompt"))


def _check_number(request: GenerateRequest, bound: _Bound) -> None:
    value = getattr(request, bound.field)
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise DanqingError("not_a_number", field=bound.field)
    if not bound.low <= value <= bound.high:
        raise DanqingError("out_of_range", field=bound.field, value=value, minimum=bound.low, maximum=bound.high)


def _check_text(field: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise DanqingError("text_too_long", field=field, length=len(text), maximum=limit)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DanqingError("broken_text", field=field) from None
    if "\x00" in text:
        raise DanqingError("broken_text", field=field)
