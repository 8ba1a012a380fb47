"""The last room on a device: networks that a call does not need wait in the machine's memory until it is done.

The UNet never moves. It is the largest, but captured graphs and compiled code hold the addresses of its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from danqing.engine import memory
from danqing.engine.models import Model
from danqing.engine.scheduler import Kind

ASIDE = torch.device("cpu")


def idle(kind: Kind, model: Model) -> list[Any]:
    """The networks of a checkpoint, but the UNet, that a call of a kind does not run."""
    texts = [] if kind is Kind.ENCODE else [encoder.module for encoder in model.encoders]
    return texts if kind in (Kind.DECODE, Kind.ENCODE_IMAGE) else [*texts, model.vae]


@contextmanager
def aside(kind: Kind, models: Sequence[Model], device: torch.device) -> Iterator[None]:
    """While this lasts, what calls of `kind` do not need of these models is not on the device; None of it changes."""
    moved = [network for model in models for network in idle(kind, model)] if device != ASIDE else []
    for network in moved:
        _move(network, ASIDE)
    if moved:
        memory.give_back()
    try:
        yield
    finally:
        for network in moved:
            _move(network, device)


@torch.inference_mode(False)  # numbers that move inside that mode could not be written to outside it
def _move(network: Any, device: torch.device) -> None:
    network.to(device)
