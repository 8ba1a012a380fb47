"""The bodies of the routes that draw, as the WebUI names, types and defaults their fields (nearly every one may be null)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NOT_NULL = ("prompt", "negative_prompt", "steps", "cfg_scale", "width", "height", "batch_size", "n_iter")
"""Fields that a picture cannot do without."""


PIXELS = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGM8wYAdMOEQH6QSAKKAANhVIlE9AAAAAElFTkSuQmCC"
"""A picture of 8x8 for examples."""

TXT2IMG: dict[str, Any] = {"prompt": "a red circle", "steps": 4, "width": 64, "height": 64, "seed": 1}
IMG2IMG: dict[str, Any] = {**TXT2IMG, "init_images": [PIXELS], "denoising_strength": 0.6}
EXTRAS: dict[str, Any] = {"upscaling_resize": 2, "upscaler_1": "Lanczos"}
EXTRAS_BATCH: dict[str, Any] = {**EXTRAS, "imageList": [{"data": PIXELS, "name": "a.png"}]}


Table = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value in ([], "") else value)]
"""An object. Some languages write an empty one as an empty list, and forms as an empty text; the WebUI takes both."""


def example(value: dict[str, Any]) -> ConfigDict:
    """The settings of a body with an example for the API's description."""
    return ConfigDict(extra="ignore", json_schema_extra={"examples": [value]})


class Drawing(BaseModel):
    """What txt2img and img2img have in common. Unknown fields are ignored, as clients of the WebUI expect."""

    model_config = ConfigDict(extra="ignore")

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0.0
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = 50
    cfg_scale: float | None = 7.0
    width: int | None = 512
    height: int | None = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: float | None = None
    denoising_strength: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: Table | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = False
    firstpass_image: str | None = None
    comments: Table | None = None
    force_task_id: str | None = None
    sampler_index: str | None = "Euler"
    script_name: str | None = None
    script_args: list[Any] | None = []
    send_images: bool | None = True
    save_images: bool | None = False
    alwayson_scripts: Table | None = {}
    infotext: str | None = None


class Txt2Img(Drawing):
    """The body of POST txt2img."""

    model_config = example(TXT2IMG)

    enable_hr: bool | None = False
    firstphase_width: int | None = 0
    firstphase_height: int | None = 0
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = 0
    hr_resize_x: int | None = 0
    hr_resize_y: int | None = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""


class Img2Img(Drawing):
    """The body of POST img2img."""

    model_config = example(IMG2IMG)

    denoising_strength: float | None = 0.75
    init_images: list[Any] | None = None
    resize_mode: int | None = 0
    image_cfg_scale: float | None = None
    mask: str | None = None
    mask_blur_x: int | None = 4
    mask_blur_y: int | None = 4
    mask_blur: int | None = None
    mask_round: bool | None = True
    inpainting_fill: int | None = 0
    inpaint_full_res: bool | None = True
    inpaint_full_res_padding: int | None = 0
    inpainting_mask_invert: int | None = 0
    initial_noise_multiplier: float | None = None
    latent_mask: str | None = None
    include_init_images: bool | None = False


class Upscaling(BaseModel):
    """What the two extras routes have in common."""

    model_config = ConfigDict(extra="ignore")

    resize_mode: Literal[0, 1] = 0
    show_extras_results: bool | None = True
    gfpgan_visibility: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0
    codeformer_visibility: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0
    codeformer_weight: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0
    upscaling_resize: Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)] = 2
    upscaling_resize_w: Annotated[int, Field(ge=1)] = 512
    upscaling_resize_h: Annotated[int, Field(ge=1)] = 512
    upscaling_crop: bool | None = True
    upscaler_1: str | None = "None"
    upscaler_2: str | None = "None"
    extras_upscaler_2_visibility: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0
    upscale_first: bool | None = False


class ExtrasSingle(Upscaling):
    """The body of POST extra-single-image."""

    model_config = example({**EXTRAS, "image": PIXELS})

    image: str = ""


class FileData(BaseModel):
    """A picture with its file name."""

    data: str
    name: str


class ExtrasBatch(Upscaling):
    """The body of POST extra-batch-images."""

    model_config = example(EXTRAS_BATCH)

    imageList: list[FileData]  # noqa: N815 - the WebUI's name
