"""The first import of diffusers and transformers, without what they look for and the engine has no use of.

Both import whatever is installed beside them: scipy, peft, accelerate (which reads boto3), torch's distributed tensors. That is a
thousand modules and a third of the seconds from the engine's start to its first picture. Only the engine's own process comes
here: a training, which uses some of them, imports the libraries as they are.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from danqing import torchvision_shim as torchvision_shim  # before diffusers and transformers

ABSENT = ("scipy", "peft", "accelerate")
"""Not there as far as the libraries can see while they are imported. Whoever asks later finds them."""


def first_imports() -> None:
    """Import the classes of which checkpoints are made. Does nothing for libraries that are imported already."""
    with _only_what_is_used():
        import diffusers.models.autoencoders.autoencoder_kl
        import diffusers.models.unets.unet_2d_condition  # noqa: F401
        import transformers.models.clip.modeling_clip  # noqa: F401


@contextmanager
def _only_what_is_used() -> Iterator[None]:
    # None in `sys.modules` is Python's own way of saying that a module is not there. Both libraries list all installed
    # packages: once is enough.
    hidden: dict[str, Any] = {name: None for name in ABSENT if name not in sys.modules}
    listed = functools.cache(importlib.metadata.packages_distributions)
    patches: tuple[tuple[Any, str, Any], ...] = (
        (importlib.metadata, "packages_distributions", listed),
        (torch.distributed, "is_available", lambda: False),
    )
    kept = [(place, name, getattr(place, name)) for place, name, _ in patches]
    try:
        sys.modules.update(hidden)
        for place, name, value in patches:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in kept:
            setattr(place, name, value)
        for name in hidden:
            sys.modules.pop(name, None)
