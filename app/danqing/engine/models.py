"""Checkpoints in memory: read from disk in large sequential pieces, built without a random start, kept while used."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.errors import DanqingError
from danqing.library.architecture import TEXT, Architecture, TextShape, UnetShape, VaeShape, recognise
from danqing.library.header import Header, read_header
from danqing.library.index import Checkpoint

PIECE = 16 * 1024 * 1024
"""Bytes per read: on a fresh cloud disk large reads are many times as fast as page faults."""

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

SD1_LATENT_RGB = (
    ((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177)),
    (0.0, 0.0, 0.0),
)
"""Latent to RGB for SD 1.x's own VAE: the least-squares map that its users have passed on since 2022."""


@dataclass(slots=True)
class Model:
    """An SD 1.x checkpoint on a device.

    `latent_rgb`: a (4, 3) matrix and 3 offsets from scaled latents to RGB in -1..1, for previews.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    unet: Any
    vae: Any
    text: Any
    sigmas: ModelSigmas
    latent_rgb: tuple[torch.Tensor, torch.Tensor]
    sha256: str
    """Of the file's bytes as they were read."""

    @property
    def hash10(self) -> str:
        """As the infotext shows it."""
        return self.sha256[:10]

    @property
    def key(self) -> str:
        """What tells this file from every other in a batch key and a cache."""
        return str(self.checkpoint.filename)


def load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Model:
    """Read and build a checkpoint.

    The VAE and the text encoder run in float32 on a CPU and in `dtype` elsewhere, as does the UNet.

    Raises:
        DanqingError: `model_broken` with the reason.
    """
    header = read_header(checkpoint.filename)
    architecture = recognise(checkpoint.name, header.shapes, checkpoint.config)
    try:
        tensors, sha256 = read_tensors(checkpoint.filename, header)
        parts = _build(architecture, tensors)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise DanqingError("model_broken", name=checkpoint.name, reason=reason) from error
    # torch's own `to`: diffusers' warns of modules kept in float32 where there are none.
    unet, vae, text = (torch.nn.Module.to(part, device, dtype).eval().requires_grad_(False) for part in parts)
    return Model(
        checkpoint=checkpoint,
        architecture=architecture,
        unet=unet,
        vae=vae,
        text=text,
        sigmas=ModelSigmas(linear_alphas()),
        latent_rgb=_latent_rgb(header.metadata),
        sha256=sha256,
    )


def read_tensors(path: Path, header: Header) -> tuple[dict[str, torch.Tensor], str]:
    """All tensors of a `.safetensors` file, and the file's sha256, hashed beside the reading.

    The tensors share one buffer of the file's size.
    """
    size = path.stat().st_size
    buffer = bytearray(size)
    view, digest = memoryview(buffer), hashlib.sha256()
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
        position = 0
        while position < size:
            count = file.readinto(view[position : position + PIECE])
            if not count:
                raise OSError("the file grew shorter while it was read")
            hasher.submit(digest.update, view[position : position + count])
            position += count
    whole = torch.frombuffer(buffer, dtype=torch.uint8)
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in header.tensors.items():
        dtype = DTYPES.get(entry.dtype)
        if dtype is not None:
            raw = whole[header.data_start + entry.start : header.data_start + entry.end]
            # A tensor that starts at an odd address cannot be viewed as wider numbers without a copy.
            aligned = raw if raw.data_ptr() % dtype.itemsize == 0 else raw.clone()
            tensors[name] = aligned.view(dtype).reshape(entry.shape)
    return tensors, digest.hexdigest()


def _build(architecture: Architecture, tensors: dict[str, torch.Tensor]) -> tuple[Any, Any, Any]:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    unet = _meta_unet(architecture.unet)
    _assign(unet, convert_ldm_unet_checkpoint(dict(tensors), unet.config), "UNet")
    vae = _meta_vae(architecture.vae, architecture.scale)
    _assign(vae, convert_ldm_vae_checkpoint(dict(tensors), vae.config), "VAE")
    text = _meta_text(architecture.text)
    prefixes = (TEXT + "text_model.", TEXT)
    own = {k.removeprefix(prefixes[0]).removeprefix(prefixes[1]): v for k, v in tensors.items() if k.startswith(TEXT)}
    _assign(text, own, "text encoder")
    return unet, vae, text


def _assign(module: Any, state: dict[str, torch.Tensor], what: str) -> None:
    """Give a module on the meta device its weights; every parameter must be there, buffers are made again."""
    wanted = module.state_dict()
    found = {key: value for key, value in state.items() if key in wanted}
    missing = [key for key, _ in module.named_parameters() if key not in found]
    if missing:
        raise ValueError(f"the {what} lacks {len(missing)} tensors, {missing[0]} first")
    module.load_state_dict(found, strict=False, assign=True)
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta and name.endswith("position_ids"):
            owner = module.get_submodule(name.rpartition(".")[0])
            owner.register_buffer("position_ids", torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)


def _meta_unet(shape: UnetShape) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in shape.attends)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(shape.attends))
    with torch.device("meta"):
        return UNet2DConditionModel(
            in_channels=shape.in_channels,
            out_channels=4,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=shape.widths,
            layers_per_block=shape.layers,
            attention_head_dim=shape.heads,  # diffusers' name for the number of heads
            cross_attention_dim=shape.context,
            norm_num_groups=shape.groups,
        )


def _meta_vae(shape: VaeShape, scale: float) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(shape.widths)
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=shape.widths,
            layers_per_block=shape.layers,
            norm_num_groups=shape.groups,
            latent_channels=4,
            scaling_factor=scale,
        )


def _meta_text(shape: TextShape) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.positions,
        hidden_act=shape.activation,
        projection_dim=shape.width,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    with torch.device("meta"):
        return CLIPTextModel(config)


def _latent_rgb(metadata: dict[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        fitted = json.loads(metadata["danqing.latent_rgb"])
        matrix, offsets = (fitted["matrix"], fitted["bias"]) if isinstance(fitted, dict) else fitted
        found = torch.tensor(matrix, dtype=torch.float32), torch.tensor(offsets, dtype=torch.float32)
        if found[0].shape == (4, 3) and found[1].shape == (3,):
            return found
    except (KeyError, ValueError, TypeError):
        pass
    return torch.tensor(SD1_LATENT_RGB[0]), torch.tensor(SD1_LATENT_RGB[1])
