"""DeepDanbooru: which of several thousand tags fit a picture.

A residual network with bottlenecks (https://github.com/KichangKim/DeepDanbooru, MIT; `create_resnet_custom_v3`), its batch norms
folded into the convolutions, in the file that WebUIs use: convolutions `n_Conv_0` onwards in the order in which they run, a
block's shortcut before its branch, and the list `tags`. Widths and depths are read from the weights' shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from danqing.engine.interrogators import Manner
from danqing.errors import DanqingError
from danqing.imaging.resize import FILL, resize_image
from danqing.library.pickles import read_pickle
from danqing.library.tensors import TensorReader
from danqing.library.weights import open_weights

SIDE = 512
"""Pixels of the square that the network was made for."""

RATING = "rating:"
"""Tags that say for whom a picture is."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """`weight`: (out, in, k, k). `bias`: (out,), None for the last."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def kernel(self) -> int:
        return int(self.weight.shape[-1])

    def __call__(self, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        """Padded as TensorFlow's "same": what is odd goes to the right and the bottom."""
        total = [max(0, (-(-side // stride) - 1) * stride + self.kernel - side) for side in (x.shape[-1], x.shape[-2])]
        pads = [part for one in total for part in (one // 2, one - one // 2)]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, stride)


@dataclass(frozen=True, slots=True)
class Tagger:
    """The network."""

    convolutions: tuple[Convolution, ...]
    tags: tuple[str, ...]

    @torch.inference_mode()
    def probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        """(tags,) of a picture (1, 3, h, w) with values 0 to 1."""
        layers, stride = self.convolutions, 1
        x = layers[0](pixels, 2).relu()
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        for at, begins in blocks_of([layer.kernel for layer in layers]):
            step = stride if begins else 1
            shortcut = layers[at](x, step) if begins else x
            first, middle, last = layers[at + begins : at + begins + 3]
            x = (last(middle(first(x).relu(), step).relu()) + shortcut).relu()
            stride = 2
        return layers[-1](x).mean((-2, -1))[0].sigmoid()


def blocks_of(kernels: Sequence[int]) -> list[tuple[int, bool]]:
    """Where each block begins, and whether it begins a stage: its shortcut then stands before the branch's three.

    Raises:
        ValueError: kernels of another network.
    """
    found, at = [], 1
    while at < len(kernels) - 1:
        begins = kernels[at + 1] == 1
        if list(kernels[at + begins : at + begins + 3]) != [1, 3, 1]:
            raise ValueError(f"its layer {at} begins no block")
        found.append((at, begins))
        at += begins + 3
    if not found or at != len(kernels) - 1:
        raise ValueError(f"{len(kernels)} layers")
    return found


def load(path: Path, device: torch.device) -> Tagger:
    """The network in a file, in float32.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    tree, _ = read_pickle(path)
    tags = tree.get("tags") if isinstance(tree, dict) else None
    try:
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError("it holds no list of tags")
        with TensorReader(open_weights(path)) as reader:
            count = sum(name.endswith(".weight") for name in reader.entries)
            layers = [_convolution(reader, f"n_Conv_{number}", device) for number in range(count)]
        blocks_of([layer.kernel for layer in layers])
        if layers[-1].weight.shape[0] != len(tags):
            raise ValueError(f"{len(tags)} tags for {layers[-1].weight.shape[0]} outputs")
    except (ValueError, KeyError, IndexError) as error:
        raise DanqingError("model_broken", name=path.name, reason=str(error)) from None
    return Tagger(tuple(layers), tuple(tags))


def _convolution(reader: TensorReader, name: str, device: torch.device) -> Convolution:
    bias = reader.get(f"{name}.bias").to(device, torch.float32) if f"{name}.bias" in reader else None
    return Convolution(reader.get(f"{name}.weight").to(device, torch.float32), bias)


def tagged(image: Image.Image, tagger: Tagger, device: torch.device, manner: Manner) -> str:
    """The tags that fit, with commas between them."""
    square = resize_image(FILL, image.convert("RGB"), SIDE, SIDE)
    pixels = torch.from_numpy(np.asarray(square, np.float32) / 255).permute(2, 0, 1)[None].to(device)
    return written(tagger.tags, tagger.probabilities(pixels).tolist(), manner)


def written(tags: Sequence[str], probabilities: Sequence[float], manner: Manner) -> str:
    """The tags above the threshold as a prompt, ratings left out."""
    unwanted = {tag.strip().replace(" ", "_") for tag in manner.left_out.split(",")}
    found = [
        (tag, sure)
        for tag, sure in zip(tags, probabilities, strict=True)
        if sure >= manner.threshold and not tag.startswith(RATING) and tag not in unwanted
    ]
    found.sort(key=(lambda row: row[0]) if manner.by_name else (lambda row: -row[1]))
    return ", ".join(_word(tag, sure, manner) for tag, sure in found)


def _word(tag: str, sure: float, manner: Manner) -> str:
    word = tag.replace("_", " ") if manner.spaces else tag
    if manner.escape:
        for sign in "\\()":
            word = word.replace(sign, "\\" + sign)
    return f"({word}:{sure:.3f})" if manner.ranks else word
