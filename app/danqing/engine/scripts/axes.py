"""The axes of an X/Y/Z plot: their labels, how their values read, and what a value does to a request (spec 18). No torch."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from danqing.engine import catalog
from danqing.errors import DanqingError
from danqing.request import GenerateRequest

Apply = Callable[[GenerateRequest, Any, Sequence[Any]], GenerateRequest]
"""(request, value, all values of the axis) to the request with that value."""

Kind = Literal["none", "int", "float", "str", "order", "bool", "size"]

MOST_VALUES = 1000

_RANGE = re.compile(r"\s*([+-]?\s*\d+)\s*-\s*([+-]?\s*\d+)(?:\s*\(([+-]\d+)\s*\))?\s*")
_FLOAT_RANGE = re.compile(
    r"\s*([+-]?\s*\d+(?:\.\d*)?)\s*-\s*([+-]?\s*\d+(?:\.\d*)?)(?:\s*\(([+-]\d+(?:\.\d*)?)\s*\))?\s*"
)
_COUNT = re.compile(r"\s*([+-]?\s*\d+)\s*-\s*([+-]?\s*\d+)(?:\s*\[(\d+)\s*\])?\s*")
_FLOAT_COUNT = re.compile(r"\s*([+-]?\s*\d+(?:\.\d*)?)\s*-\s*([+-]?\s*\d+(?:\.\d*)?)(?:\s*\[(\d+(?:\.\d*)?)\s*\])?\s*")


@dataclass(frozen=True, slots=True)
class Axis:
    """A row of the list. `cost`: the dearest axis goes outermost. `tab`: where alone it is listed, "" for both."""

    label: str
    kind: Kind
    apply: Apply
    tab: str = ""
    cost: float = 0.0
    choices: bool = False
    """Its values may come from a list in place of a text."""


def _field(name: str) -> Apply:
    return lambda request, value, values: request.model_copy(update={name: value})


def _option(name: str) -> Apply:
    def apply(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
        return request.model_copy(update={"options": _checked_options(request, {name: value})})

    return apply


def _checked_options(request: GenerateRequest, changes: dict[str, Any]) -> Any:
    try:
        return type(request.options).model_validate({**request.options.model_dump(), **changes})
    except ValueError as error:
        name = next(iter(changes))
        raise DanqingError("invalid_field", field=name, reason=str(error).splitlines()[-1][:120]) from None


def _hires(name: str) -> Apply:
    def apply(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
        hires = request.hires
        return (
            request if hires is None else request.model_copy(update={"hires": hires.model_copy(update={name: value})})
        )

    return apply


def _nothing(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    return request


def _replace(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    """Search and replace: the first value is what is looked for.

    Raises:
        DanqingError: `invalid_field`, when neither prompt has it.
    """
    looked = values[0]
    if looked not in request.prompt and looked not in request.negative_prompt:
        raise DanqingError("invalid_field", field="Prompt S/R", reason=f"“{looked[:60]}” is in neither prompt")
    return request.model_copy(
        update={
            "prompt": request.prompt.replace(looked, value),
            "negative_prompt": request.negative_prompt.replace(looked, value),
        }
    )


def _order(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    """The named pieces of the prompt in another order; what stands between them stays."""
    places = sorted((request.prompt.find(piece), piece) for piece in value)
    if any(place < 0 for place, _ in places):
        raise DanqingError("invalid_field", field="Prompt order", reason="a piece is not in the prompt")
    parts, rest = [], request.prompt
    for _, piece in places:
        place = rest.find(piece)
        parts.append(rest[:place])
        rest = rest[place + len(piece) :]
    text = "".join(part + piece for part, piece in zip(parts, value, strict=True)) + rest
    return request.model_copy(update={"prompt": text})


def _sampler(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    return request.model_copy(update={"sampler": catalog.find_sampler(value).name})


def _hires_sampler(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    return _hires("sampler")(request, catalog.find_sampler(value).name, values)


def _schedule(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    return request.model_copy(update={"scheduler": catalog.schedule(value).label})


def _styles(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    """One style more, or several with commas between.

    Raises:
        DanqingError: `invalid_field`, for a name that is no style.
    """
    script = request.script
    names = [name.strip() for name in str(value).split(",") if name.strip() not in ("", "None")]
    shelf = script.shelf if script is not None else {}
    strange = next((name for name in names if name not in shelf), None)
    if strange is not None:
        raise DanqingError("invalid_field", field="Styles", reason=f"“{strange[:60]}” is no style")
    if script is None:
        return request
    styles = script.styles + tuple(shelf[name] for name in names)
    return request.model_copy(update={"script": script.model_copy(update={"styles": styles})})


def _refiner(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    return request.model_copy(update={"refiner_checkpoint": "" if value.lower() in ("", "none") else value})


def _size(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    width, height = value
    return request.model_copy(update={"width": width, "height": height})


def _fp8(request: GenerateRequest, value: Any, values: Sequence[Any]) -> GenerateRequest:
    if str(value).lower() not in ("disable", "false", "no", "0"):
        raise DanqingError("not_available", feature="FP8 mode")
    return request


T2I, I2I = "txt2img", "img2img"

AXES: tuple[Axis, ...] = (
    Axis("Nothing", "none", _nothing),
    Axis("Seed", "int", _field("seed")),
    Axis("Var. seed", "int", _field("subseed")),
    Axis("Var. strength", "float", _field("subseed_strength")),
    Axis("Steps", "int", _field("steps")),
    Axis("Hires steps", "int", _hires("steps"), T2I),
    Axis("CFG Scale", "float", _field("cfg_scale")),
    Axis("Image CFG Scale", "float", _field("image_cfg_scale"), I2I),
    Axis("Prompt S/R", "str", _replace),
    Axis("Prompt order", "order", _order),
    Axis("Sampler", "str", _sampler, choices=True),
    Axis("Hires sampler", "str", _hires_sampler, T2I, choices=True),
    Axis("Checkpoint name", "str", _field("model"), cost=1.0, choices=True),
    Axis("Negative Guidance minimum sigma", "float", _field("s_min_uncond")),
    Axis("Sigma Churn", "float", _option("s_churn")),
    Axis("Sigma min", "float", _option("s_tmin")),
    Axis("Sigma max", "float", _option("s_tmax")),
    Axis("Sigma noise", "float", _option("s_noise")),
    Axis("Schedule type", "str", _schedule, choices=True),
    Axis("Schedule min sigma", "float", _option("sigma_min")),
    Axis("Schedule max sigma", "float", _option("sigma_max")),
    Axis("Schedule rho", "float", _option("rho")),
    Axis("Beta schedule alpha", "float", _option("beta_dist_alpha")),
    Axis("Beta schedule beta", "float", _option("beta_dist_beta")),
    Axis("Eta", "float", _field("eta")),
    Axis("Clip skip", "int", _field("clip_skip")),
    Axis("Denoising", "float", _field("denoising_strength")),
    Axis("Initial noise multiplier", "float", _option("initial_noise_multiplier")),
    Axis("Extra noise", "float", _option("img2img_extra_noise")),
    Axis("Hires upscaler", "str", _hires("upscaler"), T2I, choices=True),
    Axis("Cond. Image Mask Weight", "float", _option("inpainting_mask_weight"), I2I),
    Axis("VAE", "str", _option("sd_vae"), cost=0.7, choices=True),
    Axis("Styles", "str", _styles, choices=True),
    Axis("UniPC Order", "int", _option("uni_pc_order"), cost=0.5),
    Axis("Face restore", "bool", _field("restore_faces")),
    Axis("Token merging ratio", "float", _option("token_merging_ratio")),
    Axis("Token merging ratio high-res", "float", _option("token_merging_ratio_hr")),
    Axis("Always discard next-to-last sigma", "bool", _option("always_discard_next_to_last_sigma"), choices=True),
    Axis("SGM noise multiplier", "bool", _option("sgm_noise_multiplier"), choices=True),
    Axis("Refiner checkpoint", "str", _refiner, choices=True),
    Axis("Refiner switch at", "float", _field("refiner_switch_at")),
    Axis("RNG source", "str", _field("rng"), choices=True),
    Axis("FP8 mode", "str", _fp8, cost=0.9, choices=True),
    Axis("Size", "size", _size),
)


def labels(tab: str) -> list[str]:
    """The labels of a tab's list, in order."""
    return [axis.label for axis in AXES if axis.tab in ("", tab)]


def find(label: str) -> Axis:
    """
    Raises:
        DanqingError: `invalid_field`.
    """
    axis = next((axis for axis in AXES if axis.label.lower() == label.lower()), None)
    if axis is None:
        raise DanqingError("invalid_field", field="axis", reason=f"“{label[:60]}”; known: {', '.join(labels(T2I))}")
    return axis


def values_of(axis: Axis, text: str, dropdown: Sequence[str], csv_mode: bool) -> list[Any]:
    """The values of an axis; [0] for no axis.

    Raises:
        DanqingError: `invalid_field`, for what does not read as the axis wants; `too_many_images`.
    """
    if axis.kind == "none":
        return [0]
    if axis.choices and dropdown and not csv_mode:
        texts = list(dropdown)
    else:
        rows = csv.reader([text.replace("\n", " ")], skipinitialspace=True)
        texts = [one.strip() for one in itertools.chain.from_iterable(rows) if one.strip()]
    if axis.kind in ("int", "float"):
        texts = [one for part in texts for one in _expanded(part, axis.kind)]
    if len(texts) > MOST_VALUES:
        raise DanqingError("too_many_images", count=len(texts), maximum=MOST_VALUES)
    if axis.kind == "order":
        return list(itertools.permutations(texts[:6]))
    return [_read(axis, one) for one in texts]


def _expanded(text: str, kind: Kind) -> list[str]:
    """A range as its values: `1-5`, `1-5(+2)`, `1-10[3]`."""
    whole, counted = (_RANGE, _COUNT) if kind == "int" else (_FLOAT_RANGE, _FLOAT_COUNT)
    read: Callable[[str], Any] = int if kind == "int" else float
    match, many = whole.fullmatch(text), counted.fullmatch(text)
    if match:
        start, end = (read(match[i].replace(" ", "")) for i in (1, 2))
        step = read(match[3]) if match[3] else (1 if start <= end else -1)
        if step == 0 or abs(end - start) / abs(step) > MOST_VALUES:
            raise DanqingError("invalid_field", field="range", reason=text[:60])
        count = int((end - start) / step + 1e-6) + 1
        return [str(start + i * step) for i in range(max(0, count))]
    if many and many[3]:
        start, end = (read(many[i].replace(" ", "")) for i in (1, 2))
        count = min(int(float(many[3])), MOST_VALUES)
        spaced = [start + (end - start) * i / max(1, count - 1) for i in range(count)]
        return [str(int(value)) if kind == "int" else str(value) for value in spaced]
    return [text]


def _read(axis: Axis, text: str) -> Any:
    try:
        match axis.kind:
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "bool":
                return text.lower() in ("true", "yes", "1")
            case "size":
                width, height = re.split("[x×,]", text.lower())
                return int(width), int(height)
    except ValueError:
        raise DanqingError("invalid_field", field=axis.label, reason=f"“{text[:60]}”") from None
    return text


def shown(axis: Axis, value: Any) -> str:
    """What the legend says of a value."""
    if axis.kind == "none":
        return ""
    if axis.kind == "order":
        return ", ".join(value)
    if axis.kind == "size":
        return f"{value[0]}x{value[1]}"
    if axis.label in ("Prompt S/R", "Checkpoint name", "Sampler", "Styles"):
        return str(value)
    number = round(value, 8) if isinstance(value, float) else value
    return f"{axis.label}: {number}"
