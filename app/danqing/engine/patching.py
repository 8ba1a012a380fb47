"""Applies adapters to a model for the time of one forward pass, and leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from danqing.engine.calls import Adapters
from danqing.errors import DanqingError


@contextlib.contextmanager
def patched(model: Any, adapters: Adapters, part: str) -> Iterator[None]:
    """Within the context the networks of `model` behave as with `adapters`.

    Args:
        part: "text" or "unet": which networks are about to run.

    Raises:
        DanqingError: when an adapter does not fit the model.
    """
    if adapters:
        raise DanqingError("not_available", feature="adapters")
    yield
