"""A checkpoint in memory: its networks, its noise levels, what kind of numbers it predicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, cast

import torch

from danqing.engine.building import END, fill_parts, meta_parts, meta_vae
from danqing.engine.reading import read_ahead
from danqing.engine.schedules import ModelSigmas, linear_alphas, zero_terminal_snr
from danqing.errors import DanqingError
from danqing.library.architecture import Architecture, Family, Prediction, recognise
from danqing.library.folders import recognise_folder
from danqing.library.index import Checkpoint, stamp_of
from danqing.library.keys import VAE
from danqing.library.routes import routes_of, vae_routes
from danqing.library.shapes import TextKind, vae_shape
from danqing.library.weights import open_weights

SD1_LATENT_RGB = (
    ((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177)),
    (0.0, 0.0, 0.0),
)
"""Latent to RGB for the VAE of SD 1.x and 2.x: the least-squares map that its users have passed on since 2022."""

SDXL_LATENT_RGB = (
    (
        (60 / 127.5, 60 / 127.5, 60 / 127.5),
        (-60 / 127.5, -5 / 127.5, 10 / 127.5),
        (25 / 127.5, 15 / 127.5, -5 / 127.5),
        (-70 / 127.5, -50 / 127.5, -35 / 127.5),
    ),
    (150 / 127.5 - 1, 140 / 127.5 - 1, 130 / 127.5 - 1),
)
"""The same for SDXL's VAE: T. A. Vass, https://huggingface.co/blog/TimothyAlexisVass/explaining-the-sdxl-latent-space"""


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder. `module`: transformers' `CLIPTextModel`, for "open_clip_g" a `CLIPTextModelWithProjection`.

    `pad`: the token that fills a chunk behind the text's end.
    """

    kind: TextKind
    module: Any
    pad: int


@dataclass(frozen=True, slots=True)
class ExternalVae:
    """A VAE from a file of its own. `hashed`: its sha256, now or later."""

    path: Path
    module: Any
    hashed: Future[str]


@dataclass(slots=True)
class Model:
    """A checkpoint on a device.

    `latent_rgb`: a (4, 3) matrix and 3 offsets from scaled latents to RGB in -1..1, for previews.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    unet: Any
    vae: Any
    encoders: tuple[TextEncoder, ...]
    sigmas: ModelSigmas
    latent_rgb: tuple[torch.Tensor, torch.Tensor]
    hashed: Future[str]
    """The file's sha256, now or later: hashing goes on in the background when the networks can already draw."""
    prediction: Prediction = "epsilon"
    external: ExternalVae | None = None
    """The file that `vae` is from, where that is not the checkpoint's own."""
    key: str = ""
    """What tells this state of this file from every other in a batch key and a cache."""

    def __post_init__(self) -> None:
        self.key = self.key or str(self.checkpoint.filename)

    @property
    def text(self) -> Any:
        """The first text encoder's module."""
        return self.encoders[0].module

    @property
    def family(self) -> Family:
        return self.architecture.family

    @property
    def in_channels(self) -> int:
        """Of the UNet: 4; 9 of an inpainting model, 8 of instruct-pix2pix, 5 with depth."""
        return self.architecture.unet.in_channels

    @property
    def sha256(self) -> str:
        """Of the file; waits until it is known."""
        return self.hashed.result()

    @property
    def hash10(self) -> str:
        """As the infotext shows it."""
        return self.sha256[:10]

    @property
    def vae_name(self) -> str | None:
        """File name of the external VAE."""
        return self.external.path.name if self.external else None

    @property
    def vae_hash(self) -> str | None:
        """Its hash as the infotext shows it."""
        return self.external.hashed.result()[:10] if self.external else None

    def with_vae(self, external: ExternalVae) -> Model:
        """The same networks with another VAE."""
        return replace(self, vae=external.module, external=external)


Hash = Callable[[Path], str]


def state_of(checkpoint: Checkpoint) -> tuple[str, int, str]:
    """Path, time of the last change, and that of the YAML beside it: what tells one state of a checkpoint from another."""
    stamp = stamp_of(checkpoint.filename)
    beside = stamp_of(checkpoint.config) if checkpoint.config else None
    return str(checkpoint.filename), stamp[2] if stamp else 0, str(beside[2]) if beside else ""


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, sha256_of: Hash | None = None) -> Model:
    """Read and build a checkpoint, all networks in `dtype`.

    Args:
        sha256_of: hashes a file, or remembers its hash; runs in a thread of its own once the networks are there.

    Raises:
        DanqingError: `model_broken` with the reason, `model_unsafe`.
    """
    key = ":".join(str(one) for one in state_of(checkpoint))
    weights = open_weights(checkpoint.filename)
    files = [piece.path for piece in weights.pieces]
    Thread(target=read_ahead, args=(files,), name="read-ahead", daemon=True).start()
    if weights.configs:
        architecture = recognise_folder(checkpoint.name, weights)
    else:
        architecture = recognise(checkpoint.name, weights.shapes, checkpoint.config)
    try:
        parts = meta_parts(architecture)
        fill_parts(parts, weights, routes_of(weights, architecture), device, dtype)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise _broken(checkpoint.name, error) from error
    texts = architecture.texts
    return Model(
        checkpoint=checkpoint,
        architecture=architecture,
        unet=parts["unet"],
        vae=parts["vae"],
        encoders=tuple(
            TextEncoder(text.kind, parts[f"text{index}"], END if text.kind == "clip_l" else 0)
            for index, text in enumerate(texts)
        ),
        sigmas=ModelSigmas(_alphas(architecture)),
        latent_rgb=_latent_rgb(weights.metadata, architecture.family),
        hashed=_hash(checkpoint.filename, checkpoint.sha256, sha256_of),
        prediction=architecture.prediction or measured_prediction(parts["unet"]),
        key=key,
    )


def load_vae(path: Path, like: Model, sha256_of: Hash | None = None) -> ExternalVae:
    """Read a VAE from a file of its own, for a checkpoint whose latents it shares.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    weights = open_weights(path)
    shapes = weights.shapes
    prefix = VAE if any(name.startswith(VAE) for name in shapes) else ""
    try:
        shape = vae_shape(shapes, prefix, {"norm_num_groups": like.architecture.vae.groups})
        module = meta_vae(shape, like.architecture.scale)
        own = like.unet
        fill_parts({"vae": module}, weights, vae_routes(weights, prefix, shape), own.device, own.dtype)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise _broken(path.name, error) from error
    return ExternalVae(path, module, _hash(path, None, sha256_of))


def _alphas(architecture: Architecture) -> torch.Tensor:
    alphas = linear_alphas(*architecture.betas)
    return zero_terminal_snr(alphas) if architecture.zero_snr else alphas


def _broken(name: str, error: Exception) -> DanqingError:
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return DanqingError("model_broken", name=name, reason=reason)


def _hash(path: Path, known: str | None, sha256_of: Hash | None) -> Future[str]:
    """The hash of a file just read, from the page cache, in a thread that ends with it."""
    if known or sha256_of is None:
        done: Future[str] = Future()
        done.set_result(known or "")
        return done
    thread = ThreadPoolExecutor(1, thread_name_prefix="hash-model")
    future = thread.submit(sha256_of, path)
    thread.shutdown(wait=False)
    return future


@torch.inference_mode()
def measured_prediction(unet: Any) -> Prediction:
    """What a UNet of SD 2.x predicts, found by running it once on constant inputs at the last timestep.

    Where all is noise, a model that predicts the noise gives back its input; one that predicts v gives minus the picture.
    """
    config, device, dtype = unet.config, unet.device, unet.dtype
    x = torch.full((1, config.in_channels, 8, 8), 0.5, device=device, dtype=dtype)
    context = torch.full((1, 2, config.cross_attention_dim), 0.5, device=device, dtype=dtype)
    out = unet(x, torch.tensor([999], device=device), encoder_hidden_states=context, return_dict=False)[0]
    return "v" if float((out - x).float().mean()) < -1 else "epsilon"


def _latent_rgb(metadata: dict[str, str], family: Family) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        fitted = json.loads(metadata["danqing.latent_rgb"])
        matrix, offsets = (fitted["matrix"], fitted["bias"]) if isinstance(fitted, dict) else fitted
        found = torch.tensor(matrix, dtype=torch.float32), torch.tensor(offsets, dtype=torch.float32)
        if found[0].shape == (4, 3) and found[1].shape == (3,):
            return found
    except (KeyError, ValueError, TypeError):
        pass
    table = SDXL_LATENT_RGB if family.startswith("sdxl") else SD1_LATENT_RGB
    return torch.tensor(table[0]), torch.tensor(table[1])


def added_conditioning(model: Model, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    """SDXL's added conditioning as diffusers' UNet takes it.

    vectors: (rows, pooled width + numbers): the pooled text, then the sizes and crops (6 numbers), or for the refiner sizes,
    crops and the aesthetic score (5 numbers), as they are; the UNet embeds them itself.
    """
    width = model.encoders[-1].module.config.projection_dim
    return cast(
        "dict[str, torch.Tensor]", {"text_embeds": vectors[:, :width], "time_ids": vectors[:, width:].contiguous()}
    )
