"""Infotext: what a picture was drawn from, as text inside the picture. Written and read as the WebUI does (spec 7).

Texts written by `write` come back from `parse` and `to_request_fields` as they were, with one ambiguity of the format itself:
a line of the prompt that begins with "Negative prompt:" is read as the beginning of the negative prompt. (A text that lacks the
last line of parameters, as `write` never makes one, is a prompt, unless its own last line reads like three or more parameters.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from danqing import __version__
from danqing.engine.catalog import NO_ETA as NO_ETA
from danqing.gallery.reading import maker_of as maker_of
from danqing.gallery.reading import read_image as read_image
from danqing.prompt import emphasis
from danqing.request import old_first_size

if TYPE_CHECKING:
    from danqing.engine.protocol import ImageFacts
    from danqing.request import GenerateRequest

VERSION = f"danqing {__version__}"
"""What our own infotexts say under `Version`."""

NEGATIVE = "Negative prompt:"

ORDER = (
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Image CFG scale",
    "Seed",
    "Face restoration",
    "Size",
    "Model hash",
    "Model",
    "FP8 weight",
    "Cache FP16 weight for LoRA",
    "VAE hash",
    "VAE",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Denoising strength",
    "Conditional mask weight",
    "Clip skip",
    "ENSD",
    "Token merging ratio",
    "Token merging ratio hr",
    "Init image hash",
    "RNG",
    "Tiling",
)
"""Spec 7.2; all other keys follow in their own order, then Version and User."""

UNTOLD: Mapping[str, str] = {
    "Model hash": "add_model_hash_to_info",
    "Model": "add_model_name_to_info",
    "VAE hash": "add_vae_hash_to_info",
    "VAE": "add_vae_name_to_info",
    "Lora hashes": "lora_add_hashes_to_infotext",
    "TI hashes": "textual_inversion_add_hashes_to_infotext",
}
"""Keys that an option leaves out."""

FILLED: Mapping[str, str | int | bool] = {
    "Clip skip": "1",
    "Hires resize-1": 0,
    "Hires resize-2": 0,
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": 32,
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "Schedule max sigma": 0,
    "Schedule min sigma": 0,
    "Schedule rho": 0,
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Refiner switch by sampling steps": False,
}
"""Spec 7.3: what a text leaves out. The types are those of the png-info route's answer."""

TIMESTEP_SAMPLERS = frozenset({"DDIM", "DDIM CFG++", "PLMS", "UniPC"})
ENSD_SAMPLERS = frozenset({"DPM++ 2S a", "Euler a", "DPM2 a", "DPM fast", "DPM adaptive"})
"""Samplers that the WebUI marks as using the seed delta (spec 9.1)."""

_PAIR = re.compile(r'\b(\w[\w \-/]{1,99}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
# The key's length is bounded so that a megabyte of letters is read in linear time.
_SIZE = re.compile(r"^(\d+)x(\d+)$")
_VERSION = re.compile(r"^v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:-(\d{1,9}))?")
_ADDNET = re.compile(r"\([0-9a-fA-F]+\)$")

Printable = str | int | float | bool | None


def write(request: GenerateRequest, facts: ImageFacts, version: str) -> str:
    """The infotext of one picture of `request`; of extras only what was done to the picture."""
    if request.kind == "extras":
        return ", ".join(_pair(key, value) for key, value in facts.extra.items())
    line = ", ".join(_pair(key, value) for key, value in _ordered(request, facts, version) if value is not None)
    negative = f"{NEGATIVE} {request.negative_prompt}" if request.negative_prompt else ""
    return "\n".join(part for part in (request.prompt, negative, line) if part)


def of_extras(text: str) -> str:
    """The line of what extras did, without anything that a picture said before."""
    return text.rpartition("\n")[2]


def _ordered(request: GenerateRequest, facts: ImageFacts, version: str) -> list[tuple[str, Printable]]:
    known: dict[str, Printable] = {
        "Steps": request.steps,
        "Sampler": request.sampler,
        "Schedule type": facts.schedule,
        "CFG scale": request.cfg_scale,
        "Seed": facts.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": facts.model_hash or None,
        "Model": facts.model_name or None,
        **_variation(request, facts),
        "Denoising strength": _strength(request),
        **_merging(request),
        "Tiling": "True" if request.tiling else None,
        "ENSD": _ensd(request),
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "RNG": request.rng if request.rng != "GPU" else None,
    }
    known |= facts.extra
    if not {"Eta", "Eta DDIM"} & facts.extra.keys():
        known |= _eta(request)
    known |= {key: None for key, option in UNTOLD.items() if key in known and not getattr(request.options, option)}
    rest = [(key, value) for key, value in known.items() if key not in ORDER]
    last = version if request.options.add_version_to_infotext else None
    return [(key, known[key]) for key in ORDER if key in known] + rest + [("Version", last)]


def _variation(request: GenerateRequest, facts: ImageFacts) -> dict[str, Printable]:
    found: dict[str, Printable] = {}
    if request.subseed_strength > 0:
        found = {"Variation seed": facts.subseed, "Variation seed strength": request.subseed_strength}
    if request.seed_resize_from_w > 0 and request.seed_resize_from_h > 0:
        found["Seed resize from"] = f"{request.seed_resize_from_w}x{request.seed_resize_from_h}"
    return found


def _strength(request: GenerateRequest) -> float | None:
    if request.kind == "img2img":
        return 0.75 if request.denoising_strength is None else request.denoising_strength
    return request.denoising_strength if request.hires is not None else None


def _merging(request: GenerateRequest) -> dict[str, Printable]:
    options = request.options
    first = (request.kind == "img2img" and options.token_merging_ratio_img2img) or options.token_merging_ratio
    second = options.token_merging_ratio_hr or options.token_merging_ratio if request.hires is not None else 0
    return {"Token merging ratio": first or None, "Token merging ratio hr": second or None}


def _ensd(request: GenerateRequest) -> int | None:
    """Only where the sampler draws again with the other seed."""
    eta = request.options.eta_ancestral if request.eta is None else request.eta
    draws = request.sampler in ENSD_SAMPLERS and eta != 0
    return request.options.eta_noise_seed_delta or None if draws else None


def _eta(request: GenerateRequest) -> dict[str, Printable]:
    timestep = request.sampler in TIMESTEP_SAMPLERS
    if request.eta is None or request.sampler in NO_ETA or request.eta == (0.0 if timestep else 1.0):
        return {}
    return {"Eta DDIM" if timestep else "Eta": request.eta}


def _pair(key: str, value: Printable) -> str:
    return key if key == value else f"{key}: {quote(value)}"


def quote(value: Printable) -> str:
    """A value as text, JSON-quoted where a comma, colon or newline would break the line."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",\n:") else text


def unquote(text: str) -> str:
    """The inverse of `quote`; what is no JSON string stays as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def parse(text: str, *, fill: bool = True) -> dict[str, str]:
    """An infotext's pairs, with the prompts under "Prompt" and "Negative prompt".

    Values `NxM` come as "<key>-1" and "<key>-2". With `fill` missing keys get the WebUI's defaults as text, and texts of old
    versions the switches that draw them as then.
    """
    return {key: str(value) for key, value in parameters(text, fill=fill).items()}


def parameters(text: str, *, fill: bool = True) -> dict[str, str | int | bool]:
    """As `parse`, with the defaults in the types of the png-info route's answer."""
    prompt, negative, pairs = _split(text)
    found: dict[str, str | int | bool] = {"Prompt": prompt, "Negative prompt": negative}
    for key, value in pairs:
        size = _SIZE.match(value)
        if size:
            found[f"{key}-1"], found[f"{key}-2"] = size.groups()
        else:
            found[key] = unquote(value)
    if fill:
        _old_networks(found)
        _fill(found)
        _old_hires(found)
        _old_version(found)
    return found


def _split(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    *lines, last = text.rstrip("\n\r\t ").split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    start = next((n for n, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(NEGATIVE).removeprefix(" ")
    return "\n".join(lines[:start]), negative, pairs


def _fill(found: dict[str, str | int | bool]) -> None:
    for key, value in FILLED.items():
        found.setdefault(key, value)
    if _emphasised(found):
        found.setdefault("Emphasis", "Original")


def _emphasised(found: Mapping[str, object]) -> bool:
    """Whether any piece of the prompts has a weight of its own."""
    texts = (str(found[key]) for key in ("Prompt", "Negative prompt"))
    return any(piece.weight != 1 for text in texts if set("([") & set(text) for piece in emphasis.parse(text))


def _old_hires(found: dict[str, str | int | bool]) -> None:
    # Before hires fix had a factor, Size was the final size and "First pass size" the first pass's, 0x0 one of 512 squared.
    try:
        first = int(found["First pass size-1"]), int(found["First pass size-2"])
        size = int(found.get("Size-1", 512)), int(found.get("Size-2", 512))
        if 0 in first:
            first = old_first_size(*size)
    except (KeyError, ValueError, OverflowError):
        return
    found["Size-1"], found["Size-2"] = first
    found["Hires resize-1"], found["Hires resize-2"] = size


def _old_networks(found: dict[str, str | int | bool]) -> None:
    """Hypernetworks, and LoRAs of the extension sd-webui-additional-networks, had keys where they now have tags."""
    if "Hypernet" in found:
        found["Prompt"] = f"{found['Prompt']}<hypernet:{found['Hypernet']}:{found.get('Hypernet strength', '1.0')}>"
    tags = ""
    for key in [key for key in found if key.startswith("AddNet Model ")]:
        number = key.removeprefix("AddNet Model ")
        if found.get(f"AddNet Module {number}") == "LoRA":
            name = _ADDNET.sub("", str(found[key])).rstrip()
            tags += f"<lora:{name}:{found.get(f'AddNet Weight A {number}', '1.0')}>"
    if tags:
        found["Prompt"] = f"{found['Prompt']}\n{tags}"


def _old_version(found: dict[str, str | int | bool]) -> None:
    version = _version(str(found.get("Version", "")))
    if version is None:
        return
    if version < (1, 6, 0, 0) and "[" in str(found["Prompt"]):
        found["Old prompt editing timelines"] = True
    if version < (1, 6, 0, 0) and found.get("Sampler") in ("DDIM", "PLMS"):
        found["Pad conds v0"] = True
    if version < (1, 7, 0, 225):
        found["Downcast alphas_cumprod"] = True
    if version < (1, 8, 0, 0) and found.get("Refiner"):
        found["Refiner switch by sampling steps"] = True


def _version(text: str) -> tuple[int, int, int, int] | None:
    """A version of the WebUI: three numbers and the commits since; -1 for what comes before the release."""
    match = _VERSION.match(text)
    if match is None:
        return None
    major, minor, patch, since = match.groups()
    return int(major), int(minor), int(patch), int(since) if since else -1 if "rc" in text.lower() else 0


_FIELDS: Mapping[str, tuple[str, type[int] | type[float] | type[str]]] = {
    "Steps": ("steps", int),
    "Sampler": ("sampler", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg_scale", float),
    "Seed": ("seed", int),
    "Size-1": ("width", int),
    "Size-2": ("height", int),
    "Clip skip": ("clip_skip", int),
    "Eta": ("eta", float),
    "Eta DDIM": ("eta", float),
}


def to_request_fields(pairs: Mapping[str, str], *, model: bool = False) -> dict[str, object]:
    """Fields of a `GenerateRequest` from parsed pairs; what does not read as its type is left out.

    Args:
        pairs: from `parse`.
        model: also take the model, by its hash where there is one. Off by default, as in the WebUI.
    """
    fields: dict[str, object] = {"prompt": pairs.get("Prompt", ""), "negative_prompt": pairs.get("Negative prompt", "")}
    for key, (field, kind) in _FIELDS.items():
        if key in pairs:
            try:
                fields[field] = kind(pairs[key])
            except ValueError:
                continue
    if pairs.get("RNG") in ("GPU", "NV", "CPU"):
        fields["rng"] = pairs["RNG"]
    name = pairs.get("Model hash") or pairs.get("Model")
    if model and name:
        fields["model"] = name
    return fields
