"""Makes the networks of a checkpoint: on the meta device, without numbers, and then filled from the file.

The configurations of all known architectures are here and in `library/shapes.py`: nothing is looked up on a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from danqing import torchvision_shim as torchvision_shim  # before diffusers and transformers
from danqing.engine.reading import Target, check_shape, fill
from danqing.library.architecture import Architecture
from danqing.library.routes import Destination, Routes
from danqing.library.shapes import TextShape, UnetShape, VaeShape
from danqing.library.weights import Weights

START, END = 49406, 49407
"""CLIP's tokens before and behind a text."""


def meta_unet(shape: UnetShape, number_width: int = 256) -> Any:
    """A `UNet2DConditionModel` on the meta device. `number_width`: numbers that SDXL makes of each size and crop."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from danqing.engine.odd_sizes import even

    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in shape.attends)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(shape.attends))
    added: dict[str, Any] = {}
    if shape.vector:
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": number_width,
            "projection_class_embeddings_input_dim": shape.vector,
        }
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            in_channels=shape.in_channels,
            out_channels=shape.out_channels,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=shape.widths,
            layers_per_block=shape.layers,
            attention_head_dim=shape.heads,  # diffusers' name for the number of heads
            cross_attention_dim=shape.context,
            norm_num_groups=shape.groups,
            transformer_layers_per_block=shape.depths or 1,
            use_linear_projection=shape.linear,
            **added,
        )
    return even(unet)


def meta_vae(shape: VaeShape, scale: float) -> Any:
    """An `AutoencoderKL` on the meta device."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(shape.widths)
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=shape.widths,
            layers_per_block=shape.layers,
            norm_num_groups=shape.groups,
            latent_channels=shape.latent,
            scaling_factor=scale,
        )


def meta_text(shape: TextShape) -> Any:
    """A `CLIPTextModel` on the meta device, a `CLIPTextModelWithProjection` where the tower has one."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.positions,
        hidden_act=shape.activation,
        projection_dim=shape.projection or shape.width,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    with torch.device("meta"):
        return CLIPTextModelWithProjection(config) if shape.projection else CLIPTextModel(config)


def meta_parts(architecture: Architecture) -> dict[str, Any]:
    """All networks of a checkpoint by part: "unet", "vae", "text0", "text1"."""
    texts = {f"text{index}": meta_text(shape) for index, shape in enumerate(architecture.texts)}
    numbers = 5 if architecture.family == "sdxl-refiner" else 6
    width = (architecture.unet.vector - architecture.texts[-1].projection) // numbers
    return {"unet": meta_unet(architecture.unet, width), "vae": meta_vae(architecture.vae, architecture.scale), **texts}


@torch.inference_mode(
    False
)  # numbers made inside that mode could not be written to outside it, in the threads that read
def fill_parts(
    parts: Mapping[str, Any], weights: Weights, routes: Routes, device: torch.device, dtype: torch.dtype
) -> None:
    """Give networks on the meta device their numbers, read from the files.

    Raises:
        ValueError: a parameter has no tensor, or one of another shape.
        OSError: a file cannot be read.
    """
    shapes = {part: {name: row.shape for name, row in module.named_parameters()} for part, module in parts.items()}
    plan = _plan(shapes, weights, routes)
    rooms = {
        part: {name: torch.empty(shape, device=device, dtype=dtype) for name, shape in rows.items()}
        for part, rows in shapes.items()
    }
    for part, name in plan.empty:
        rooms[part][name].zero_()
    for piece in weights.pieces:
        targets = {
            name: [Target(rooms[row.part][row.route.name], row.route.third, row.route.transposed) for row in rows]
            for name in piece.header.tensors
            if (rows := plan.rows.get(piece.prefix + name))
        }
        fill(piece.path, piece.header, targets)
    for part, module in parts.items():
        module.load_state_dict(rooms[part], strict=False, assign=True)
        _make_buffers(module, device)
        module.eval().requires_grad_(False)


class _Plan:
    """`rows`: destinations that are there, by tensor. `empty`: parameters that stay zero."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Destination]] = {}
        self.empty: list[tuple[str, str]] = []


def _plan(shapes: Mapping[str, Mapping[str, torch.Size]], weights: Weights, routes: Routes) -> _Plan:
    """Check every shape and that nothing is missing, before a byte is read."""
    plan, entries = _Plan(), {}
    for piece in weights.pieces:
        entries.update({piece.prefix + name: entry for name, entry in piece.header.tensors.items()})
    filled: set[tuple[str, str]] = set()
    for name, rows in routes.items():
        for row in rows:
            shape = shapes[row.part].get(row.route.name)
            if shape is None:
                continue
            meta = Target(torch.empty(shape, device="meta"), row.route.third, row.route.transposed)
            check_shape(name, entries[name], [meta])
            plan.rows.setdefault(name, []).append(row)
            filled.add((row.part, row.route.name))
    missing = [(part, name) for part, names in shapes.items() for name in names if (part, name) not in filled]
    plan.empty = _last_layer(missing, shapes)
    missing = [row for row in missing if row not in set(plan.empty)]
    if missing:
        part, name = missing[0]
        what = {"unet": "UNet", "vae": "VAE"}.get(part, "text encoder")
        raise ValueError(f"the {what} lacks {len(missing)} tensors, {name} first")
    return plan


def _last_layer(
    missing: list[tuple[str, str]], shapes: Mapping[str, Mapping[str, torch.Size]]
) -> list[tuple[str, str]]:
    """The missing parameters of a text encoder's last layer, where that layer is left out as a whole: of zeros, it does
    nothing. SD 2.x's folders leave it out, for the model uses the one before."""
    found: list[tuple[str, str]] = []
    for part in {part for part, _ in missing if part.startswith("text")}:
        layers = [name for name in shapes[part] if ".layers." in f".{name}"]
        last = max(int(name.split("layers.")[1].split(".")[0]) for name in layers)
        whole = {(part, name) for name in layers if f"layers.{last}." in name}
        if whole <= set(missing):
            found.extend(sorted(whole))
    return found


def _make_buffers(module: Any, device: torch.device) -> None:
    """Buffers are not in the files; CLIP's position ids are the only ones."""
    for name, buffer in list(module.named_buffers()):
        owner = module.get_submodule(name.rpartition(".")[0])
        if buffer.is_meta and name.endswith("position_ids"):
            ids = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            owner.register_buffer("position_ids", ids, persistent=False)
