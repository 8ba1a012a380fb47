"""Pictures that tile: every convolution sees the opposite border beyond its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def circular(*networks: nn.Module) -> Iterator[None]:
    """Within the context all 2D convolutions of the networks pad circularly."""
    convolutions = [m for network in networks for m in network.modules() if isinstance(m, nn.Conv2d)]
    before = [convolution.padding_mode for convolution in convolutions]
    for convolution in convolutions:
        convolution.padding_mode = "circular"
    try:
        yield
    finally:
        for convolution, mode in zip(convolutions, before, strict=True):
            convolution.padding_mode = mode
