"""Control-LoRAs: the pieces of a ControlNet that lies on disk as low-rank differences to a UNet.

Stability AI's layout: `STEM.up` (out, rank) and `STEM.down` (rank, in ...) beside `STEM.weight` of the UNet; what is small, such
as norms and biases, is there in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from danqing.library.tensors import TensorReader
from danqing.library.weights import Piece, Weights


def prefixed(weights: Weights, prefix: str) -> tuple[Piece, ...]:
    """The files of a model under longer names, so that two models' do not meet."""
    return tuple(replace(piece, prefix=prefix + piece.prefix) for piece in weights.pieces)


def add_pairs(module: Any, weights: Weights, pairs: Mapping[str, str]) -> None:
    """weight + up · down for every pair.

    Args:
        pairs: parameter → stem of its pair in the file.

    Raises:
        KeyError, RuntimeError: a parameter that is not there, or of another shape.
    """
    parameters = dict(module.named_parameters())
    with torch.no_grad(), TensorReader(weights) as reader:
        for name, stem in pairs.items():
            up, down = (reader.get(f"{stem}.{part}").float().flatten(1) for part in ("up", "down"))
            weight = parameters[name]
            whole = weight.float() + (up @ down).to(weight.device).reshape(weight.shape)
            weight.copy_(whole)
