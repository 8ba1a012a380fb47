"""The real engine on a device whose allocator fails now and then: `python -m bench.failing_engine --socket PATH --data DIR`.

DANQING_BENCH_FAILURES is the share of forward passes of UNet, VAE and text encoder that find no memory; nothing of Danqing reads
it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

SHARE = "DANQING_BENCH_FAILURES"


def failing(inner: Callable[..., Any], share: float, rng: random.Random) -> Callable[..., Any]:
    """`inner`, out of memory at random."""
    import torch

    def call(*arguments: Any, **named: Any) -> Any:
        if rng.random() < share:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB (a failure of the fault bench)"
            )
        return inner(*arguments, **named)

    return call


def spoil(share: float, rng: random.Random) -> None:
    """The networks' classes fail from here on."""
    from danqing.engine.imports import first_imports

    first_imports()
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.modeling_clip import CLIPTextModel

    for kind, name in ((UNet2DConditionModel, "forward"), (AutoencoderKL, "decode"), (CLIPTextModel, "forward")):
        setattr(kind, name, failing(getattr(kind, name), share, rng))


def main() -> None:
    spoil(float(os.environ.get(SHARE, "0.05")), random.Random())
    from danqing.engine.main import main as engine

    engine()


if __name__ == "__main__":
    main()
