"""One request to draw, as every door builds it: the API's JSON, the page, the CLI and a pasted infotext.

A `GenerateRequest` is frozen and checked once, at the edge, by `checked`.
Its infotext and the batch key are functions of it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from danqing.errors import DanqingError
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


class GenerateRequest(BaseModel):
    """What to draw. All doors fill the same fields; names are the field's own.

    Sizes are in pixels; the latent is `floor(size / 8)`. `seed` -1 means random and is replaced by `resolved` before the
    request is stored, so that a job drawn again after a restart gives the same picture. `model` is a title, name or hash
    from the library; "" is the box's default. `eta` None is the sampler's own default. `rng` says whose random numbers make
    the noise: torch's CPU generator, or an NVIDIA GPU's ("GPU" and "NV" are the same here: every device draws them alike).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)

    kind: Literal["txt2img"] = "txt2img"
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

    @property
    def image_count(self) -> int:
        """Pictures that the job makes: batches times batch size."""
        return self.n_iter * self.batch_size

    def resolved(self, rng: random.Random | None = None) -> GenerateRequest:
        """The same request with a random seed in place of a negative one."""
        if self.seed >= 0:
            return self
        return self.model_copy(update={"seed": (rng or random.SystemRandom()).randint(0, RANDOM_SEED_MAX)})


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
    for field in ("sampler", "scheduler", "model"):
        _check_text(field, getattr(request, field), 500)
    return request


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
