"""What a checkpoint is, decided by its tensors' names and shapes, with the YAML beside it for what shapes cannot say.

No torch. Layouts: the original Stable Diffusion code's ("LDM": `model.diffusion_model.*`, `first_stage_model.*`, text encoders
under `cond_stage_model.*` or, for SDXL, `conditioner.embedders.*`), and diffusers' folders, which bring their own `config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from danqing.errors import DanqingError
from danqing.library import shapes as reading
from danqing.library.keys import EMA, UNET, VAE
from danqing.library.shapes import Shapes, TextShape, UnetShape, VaeShape

Family = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]
Prediction = Literal["epsilon", "v"]

SD_SCALE = 0.18215
SDXL_SCALE = 0.13025
CONFIG_LIMIT = 1024 * 1024

CHANNELS = {4: "text to image", 5: "depth", 8: "instruct-pix2pix", 9: "inpainting"}
"""Input channels of a UNet that can be drawn with, and what the others than the latent's four are for."""

KNOWN = "SD 1.x, SD 2.x, SDXL, and their inpainting, instruct-pix2pix and depth variants"

OTHERS: tuple[tuple[str, str], ...] = (
    ("joint_blocks.", "it is an SD 3 checkpoint"),
    ("double_blocks.", "it is a Flux checkpoint"),
    ("cond_stage_model.roberta.", "it is an Alt-Diffusion checkpoint"),
    ("embedder.", "it is an unCLIP checkpoint"),
    ("control_model.", "it is a ControlNet; it belongs into models/ControlNet"),
    ("lora", "it is a LoRA, not a checkpoint; it belongs into models/Lora"),
    ("hada_w1", "it is a LyCORIS network, not a checkpoint; it belongs into models/Lora"),
    ("lokr_w1", "it is a LyCORIS network, not a checkpoint; it belongs into models/Lora"),
    ("string_to_param", "it is an embedding, not a checkpoint; it belongs into embeddings"),
    ("emb_params", "it is an embedding, not a checkpoint; it belongs into embeddings"),
)
"""What in a tensor's name gives away another kind of file."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A checkpoint's networks. `scale`: the latent's factor (0.18215; SDXL 0.13025).

    `prediction`: None where only running the UNet can tell (SD 2.x without a YAML). `ema`: the running means are to be used.
    `betas`: first and last of the noise schedule, and how many timesteps.
    """

    unet: UnetShape
    vae: VaeShape
    texts: tuple[TextShape, ...]
    scale: float = SD_SCALE
    family: Family = "sd1"
    prediction: Prediction | None = "epsilon"
    ema: bool = False
    betas: tuple[float, float, int] = (0.00085, 0.012, 1000)
    zero_snr: bool = False
    """Its last timestep is noise alone (https://arxiv.org/abs/2305.08891): so says a tensor `ztsnr`, or a folder's scheduler."""

    @property
    def text(self) -> TextShape:
        """The first text encoder."""
        return self.texts[0]


def recognise(name: str, shapes: Shapes, config: Path | None) -> Architecture:
    """The architecture of a single file.

    Args:
        name: what to call the file in an error.
        shapes: tensor name → shape.
        config: the LDM YAML beside the file.

    Raises:
        DanqingError: `model_broken`, naming what is missing or what other kind of model this seems to be.
    """
    params = _params(name, config)
    ema = bool(params.get("use_ema")) or not any(key.startswith(UNET) for key in shapes)
    if ema := ema and any(key.startswith(EMA) for key in shapes):
        shapes = reading.with_means(shapes)
    towers = reading.towers(shapes)
    for found, what in (
        (any(key.startswith(UNET) for key in shapes), "UNet"),
        (any(key.startswith(VAE) for key in shapes), "VAE"),
        (bool(towers), "text encoder"),
    ):
        if not found:
            raise DanqingError(
                "model_broken", name=name, reason=_other_kind(shapes) or f"it holds no {what}; {KNOWN} can be used"
            )
    try:
        unet = reading.unet_shape(shapes, params.get("unet_config", {}))
        vae = reading.vae_shape(shapes, VAE, params.get("first_stage_config", {}).get("ddconfig", {}))
        texts = tuple(reading.text_shape(shapes, tower, params.get("cond_stage_config", {}), unet) for tower in towers)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration) as error:
        reason = f"its tensors are not those of {KNOWN} ({str(error)[:200] or type(error).__name__})"
        raise DanqingError("model_broken", name=name, reason=reason) from None
    family = family_of(texts)
    check_parts(name, unet, texts, family)
    scale = float(params.get("scale_factor", SDXL_SCALE if family.startswith("sdxl") else SD_SCALE))
    prediction = _prediction(shapes, params, family, unet)
    return Architecture(unet, vae, texts, scale, family, prediction, ema, _betas(params), "ztsnr" in shapes)


def family_of(texts: tuple[TextShape, ...]) -> Family:
    """By the text encoders, which differ in every family."""
    kinds = tuple(text.kind for text in texts)
    if kinds == ("clip_l", "open_clip_g"):
        return "sdxl"
    return {"open_clip_g": "sdxl-refiner", "open_clip_h": "sd2"}.get(kinds[0], "sd1")  # type: ignore[return-value]


def check_parts(name: str, unet: UnetShape, texts: tuple[TextShape, ...], family: Family) -> None:
    context = sum(text.width for text in texts)
    if unet.in_channels not in CHANNELS or unet.out_channels != 4:
        reason = f"UNets with {unet.in_channels} input and {unet.out_channels} output channels cannot be drawn with"
        raise DanqingError("model_broken", name=name, reason=reason)
    if any(text.heads < 1 or text.width % text.heads for text in texts):
        reason = f"its text encoder of {texts[0].width} numbers cannot have {texts[0].heads} heads"
        raise DanqingError("model_broken", name=name, reason=reason)
    if unet.context != context:
        reason = f"its UNet attends to {unet.context} numbers a token, its text encoders give {context}"
        raise DanqingError("model_broken", name=name, reason=reason)
    if bool(unet.vector) != family.startswith("sdxl"):
        kind = (
            "unCLIP checkpoints are not supported"
            if unet.vector
            else "its UNet takes no size conditioning, as SDXL's does"
        )
        raise DanqingError("model_broken", name=name, reason=kind)


def _prediction(shapes: Shapes, params: Mapping[str, Any], family: Family, unet: UnetShape) -> Prediction | None:
    stated = params.get("parameterization") or _denoiser(params)
    if stated in ("v", "eps"):
        return "v" if stated == "v" else "epsilon"
    if "v_pred" in shapes:
        return "v"
    # SD 2.x was published in both kinds with the same shapes; its depth and inpainting variants predict the noise.
    return None if family == "sd2" and unet.in_channels == 4 and not params else "epsilon"


def _denoiser(params: Mapping[str, Any]) -> str:
    """What the YAML of SDXL's code says: its `denoiser_config` names a scaling."""
    target = str(params.get("denoiser_config", ""))
    return "v" if "VScaling" in target or "VWeighting" in target else "eps" if "EpsScaling" in target else ""


def _betas(params: Mapping[str, Any]) -> tuple[float, float, int]:
    count = int(params.get("timesteps", 1000))
    ends = float(params.get("linear_start", 0.00085)), float(params.get("linear_end", 0.012))
    return checked_betas(*ends, count if 1 < count <= 100_000 else 1000)


def checked_betas(first: float, last: float, count: int) -> tuple[float, float, int]:
    """
    Raises:
        ValueError: they make no noise schedule.
    """
    if not 0 < first <= last < 1:
        raise ValueError(f"a noise schedule from {first} to {last}")
    return first, last, count


def checked_scale(scale: float) -> float:
    """
    Raises:
        ValueError: no latent can have this factor.
    """
    if not 1e-6 < scale < 1e6:
        raise ValueError(f"a latent's factor of {scale}")
    return scale


def _params(name: str, config: Path | None) -> dict[str, Any]:
    """The YAML's parameters, each `*_config` replaced by its own `params`."""
    if config is None:
        return {}
    try:
        if config.stat().st_size > CONFIG_LIMIT:
            raise ValueError("too long")
        loaded = yaml.safe_load(config.read_text("utf-8"))
        params: dict[str, Any] = dict(loaded["model"]["params"])
        for key, older in (("unet_config", "network_config"), ("first_stage_config", ""), ("cond_stage_config", "")):
            section = params.get(key) or params.get(older) or {}
            params[key] = dict(section.get("params") or {}) if isinstance(section, dict) else {}
        # Numbers of a wrong type must be found here and not in the middle of a load.
        _betas(params), checked_scale(float(params.get("scale_factor", SD_SCALE)))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"{config.name} cannot be read ({type(error).__name__})"
        raise DanqingError("model_broken", name=name, reason=reason) from None
    return params


def _other_kind(shapes: Shapes) -> str:
    for sign, what in OTHERS:
        if any(sign in key for key in shapes):
            return what
    if any(key.startswith(("decoder.", "encoder.")) for key in shapes):
        return "it is a VAE, not a checkpoint; it belongs into models/VAE"
    return ""
