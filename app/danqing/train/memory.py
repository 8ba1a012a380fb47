"""What a training needs on the device, told before it starts: from the shapes in a checkpoint's header. No torch.

Weights, gradients, the optimizer's state and running means are counted exactly. What a forward keeps for its backward is counted
in numbers a pixel of each residual block and each transformer block, as diffusers' networks with fused attention keep them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from danqing.errors import DanqingError
from danqing.library.architecture import Architecture, recognise
from danqing.library.folders import recognise_folder
from danqing.library.index import Library
from danqing.library.keys import EMA, UNET, VAE
from danqing.library.shapes import Shapes, TextShape, UnetShape
from danqing.library.weights import open_weights
from danqing.train.recipe import TrainRequest, check_model

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}

RESNET = {"fp32": 12.0, "half": 10.0}
"""Bytes kept a pixel and channel that enters a residual block or leaves it: the norm's input, its output and the convolution's
input. Norms compute in float32 at any precision."""

ATTENTION = {
    ("frozen", "fp32"): 24 * 4.0,
    ("whole", "fp32"): 33 * 4.0,
    ("lora", "fp32"): 33 * 4.0,
    ("frozen", "half"): 24 * 2.0 + 8,
    ("whole", "half"): 33 * 2.0 + 8,
    ("lora", "half"): 39 * 2.0 + 8,
}
"""Bytes kept a pixel and channel of a transformer block, by what of it is trained."""

CONVOLUTIONAL_LORA = 1.07
"""What matrices beside the convolutions add to all of it."""

UNUSED = ("text_projection", "text_projection.weight", "logit_scale", "position_ids")
"""Tensors of text encoders that drawing has no use for."""

SLACK = 1.05
FIXED = 300 * 2**20
"""Bytes of workspaces, and of gradients on their way through the backward."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on the device, in all and by part. Never measured: `measured` is there to say so."""

    bytes: int
    parts: Mapping[str, int]
    measured: bool = False

    @property
    def megabytes(self) -> int:
        return math.ceil(self.bytes / 2**20)


def estimate(recipe: TrainRequest, shapes: Shapes, resolution: int = 0, config: Path | None = None) -> Estimate:
    """For a training on a single file.

    Args:
        shapes: of the checkpoint's tensors, by their names in the file.
        resolution: where the recipe gives none.
        config: the YAML beside the file.

    Raises:
        DanqingError: `model_broken`, for what is no checkpoint.
    """
    return _estimate(recipe, shapes, recognise("checkpoint", shapes, config), recipe.resolution or resolution or 512)


def estimate_for(root: Path, recipe: TrainRequest) -> Estimate:
    """For a training on a checkpoint of the data root, a file or a folder.

    Raises:
        DanqingError: `unknown_model`, `no_model`, `model_broken`, `model_unsafe`, `train_family`.
    """
    checkpoint = Library(root).resolve(recipe.model)
    weights = open_weights(checkpoint.filename)
    if weights.configs:
        architecture = recognise_folder(checkpoint.name, weights)
    else:
        architecture = recognise(checkpoint.name, weights.shapes, checkpoint.config)
    check_model(recipe, checkpoint.name, architecture.family, architecture.unet.in_channels, bool(weights.configs))
    return _estimate(recipe, weights.shapes, architecture, recipe.resolution or checkpoint.native_size)


def _estimate(recipe: TrainRequest, shapes: Shapes, architecture: Architecture, resolution: int) -> Estimate:
    counts = _counts(shapes)
    trained = trained_numbers(recipe, architecture, counts)
    half = BYTES[recipe.precision]
    whole_text = recipe.method == "dreambooth" and recipe.train_text_encoder
    weights = counts["unet"] * (4 if recipe.method == "dreambooth" else half)
    weights += counts["text"] * (4 if whole_text else half) + counts["vae"] * half
    if recipe.method == "dreambooth" and recipe.prior_target == "model" and recipe.class_pictures:
        weights += (counts["unet"] + (counts["text"] if whole_text else 0)) * half  # as they were
    # Under autocast the weights of a network that is kept in float32 are there a second time in half.
    casts = trained * 2 if recipe.method == "dreambooth" and half == 2 else 0
    beside = 0 if recipe.method == "dreambooth" else trained * 4
    optimizer = trained * (2 if recipe.optimizer == "adamw8bit" else 8)
    mean = trained * 4 if recipe.ema else 0
    activations = int(activation_bytes(recipe, architecture, resolution))
    # The optimizer's own work needs a copy of what it changes, when the activations are gone.
    work = max(activations + casts, trained * 4)
    parts = {
        "weights": int(weights + beside),
        "gradients": trained * 4,
        "optimizer": optimizer,
        "mean": mean,
        "activations": work,
        "fixed": FIXED,
    }
    total = sum(parts.values())
    return Estimate(int(total), parts)


def _counts(shapes: Shapes) -> dict[str, int]:
    """Numbers in each network; folders name their parts differently from files."""
    found = {"unet": 0, "vae": 0, "text": 0}
    for name, shape in shapes.items():
        if name.startswith(EMA) or name.endswith(UNUSED):
            continue
        if name.startswith((UNET, "unet.")):
            part = "unet"
        elif name.startswith((VAE, "vae.")):
            part = "vae"
        elif name.startswith(("cond_stage_model.", "text_encoder")):
            part = "text"
        else:
            continue
        found[part] += math.prod(shape)
    return found


def trained_numbers(recipe: TrainRequest, architecture: Architecture, counts: Mapping[str, int]) -> int:
    """How many numbers the method changes.

    Raises:
        DanqingError: `invalid_field`, for hypernetworks of widths that the model has not.
    """
    unet, text = architecture.unet, architecture.text
    if recipe.method == "dreambooth":
        return counts["unet"] + (counts["text"] if recipe.train_text_encoder else 0)
    if recipe.method == "textual_inversion":
        return recipe.vectors * text.width
    if recipe.method == "hypernetwork":
        widths = sorted({*(w for w, attends in zip(unet.widths, unet.attends, strict=True) if attends), unet.context})
        widths = [*dict.fromkeys([*widths, unet.widths[-1]])]
        chosen = [w for w in widths if w in (recipe.hypernetwork_sizes or widths)]
        if not chosen:
            reason = f"this model's widths are {', '.join(map(str, widths))}"
            raise DanqingError("invalid_field", field="hypernetwork_sizes", reason=reason)
        return sum(2 * _hypernetwork_numbers(width, recipe) for width in chosen)
    return _lora_numbers(recipe, unet) + (_text_lora_numbers(recipe, text) if recipe.train_text_encoder else 0)


def _hypernetwork_numbers(width: int, recipe: TrainRequest) -> int:
    sides = [round(width * multiple) for multiple in recipe.hypernetwork_layers]
    norm = sum(2 * side for side in sides[1:]) if recipe.hypernetwork_layer_norm else 0
    return sum(a * b + b for a, b in pairwise(sides)) + norm


@dataclass(frozen=True, slots=True)
class _Resnet:
    inputs: int
    outputs: int
    shrink: int
    """Side of the latents over the side here."""


def _resnets(unet: UnetShape) -> Iterator[_Resnet]:
    widths, layers = unet.widths, unet.layers
    skips, inputs = [widths[0]], widths[0]
    for level, width in enumerate(widths):
        for _ in range(layers):
            yield _Resnet(inputs, width, 2**level)
            inputs = width
            skips.append(width)
        if level < len(widths) - 1:
            skips.append(width)
    deepest = 2 ** (len(widths) - 1)
    yield from (_Resnet(widths[-1], widths[-1], deepest),) * 2
    for level in reversed(range(len(widths))):
        for _ in range(layers + 1):
            yield _Resnet(inputs + skips.pop(), widths[level], 2**level)
            inputs = widths[level]


def _transformers(unet: UnetShape) -> Iterator[tuple[int, int, int]]:
    """Width, shrink and depth of every stack of transformer blocks."""
    depths = unet.depths or (1,) * len(unet.widths)
    for level, (width, attends) in enumerate(zip(unet.widths, unet.attends, strict=True)):
        if attends:
            yield from ((width, 2**level, depths[level]),) * (2 * unet.layers + 1)
    yield unet.widths[-1], 2 ** (len(unet.widths) - 1), depths[-1]


def _lora_numbers(recipe: TrainRequest, unet: UnetShape) -> int:
    rank, found = recipe.rank, 0
    for width, _, depth in _transformers(unet):
        # Eight square projections of which two read the text, the doubled feed-forward, and the two around the stack.
        block = 6 * 2 * width + 2 * (unet.context + width) + (width + 8 * width) + (4 * width + width)
        found += rank * (depth * block + 2 * 2 * width)
    if not recipe.conv_rank:
        return found
    time = 4 * unet.widths[0]
    for resnet in _resnets(unet):
        found += recipe.conv_rank * (9 * (resnet.inputs + resnet.outputs) + 2 * resnet.outputs)
        found += rank * (time + resnet.outputs)
        found += rank * (resnet.inputs + resnet.outputs) if resnet.inputs != resnet.outputs else 0
    between = [*unet.widths[:-1], *unet.widths[1:]]
    return found + sum(recipe.conv_rank * 10 * width for width in between)


def _text_lora_numbers(recipe: TrainRequest, text: TextShape) -> int:
    return recipe.rank * text.layers * (4 * 2 * text.width + 2 * (text.width + text.inner))


def activation_bytes(recipe: TrainRequest, architecture: Architecture, resolution: int) -> float:
    """What the forward of one batch keeps for its backward. Pictures for prior preservation have a forward of their own."""
    unet, precision = architecture.unet, "fp32" if recipe.precision == "fp32" else "half"
    kind = "lora" if recipe.is_lora else "whole" if recipe.method == "dreambooth" else "frozen"
    side = resolution / 8
    resnets = [RESNET[precision] * (b.inputs + b.outputs) * (side / b.shrink) ** 2 for b in _resnets(unet)]
    stacks = [ATTENTION[kind, precision] * w * d * (side / s) ** 2 for w, s, d in _transformers(unet)]
    if recipe.gradient_checkpointing:
        # The inputs of blocks, and what stands around the blocks of each stack; then the largest block anew.
        kept = sum(b.inputs * (side / b.shrink) ** 2 for b in _resnets(unet))
        kept += sum(w * (4 + d) * (side / s) ** 2 for w, s, d in _transformers(unet))
        unet_bytes = kept * BYTES[recipe.precision] + max(resnets) + max(stacks)
    else:
        unet_bytes = sum(resnets) + sum(stacks)
    if recipe.is_lora and recipe.conv_rank:
        unet_bytes *= CONVOLUTIONAL_LORA
    text = 0.0
    if recipe.train_text_encoder or recipe.method == "textual_inversion":
        tower = architecture.text
        text = 77.0 * tower.layers * (ATTENTION[kind, precision] * tower.width)
        text = text / 8 if recipe.gradient_checkpointing and recipe.train_text_encoder else text
    return recipe.batch_size * (unet_bytes + text) * SLACK
