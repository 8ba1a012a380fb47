"""Two costs of Gradio's that every visitor would pay, and an idle box too.

Its queue looks for work a thousand times a second; and for each visitor it describes several hundred components, looking through
the signature of each one's class anew, which is most of what a visit costs the server.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import gradio as gr
from gradio import blocks, component_meta

LOOKS_SECONDS = 0.01
"""Between two looks of the queue for work: what an action waits at most for it."""


class _Remembering:
    """The module `inspect`, whose answers about functions are kept: a function's parameters do not change."""

    def __init__(self) -> None:
        self.signature = functools.lru_cache(None)(inspect.signature)
        self.getfullargspec = functools.lru_cache(None)(inspect.getfullargspec)

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)


def quicken(demo: gr.Blocks) -> None:
    """Make visits to `demo` cheap; call it after the page is mounted."""
    demo._queue.sleep_when_free = LOOKS_SECONDS
    remembering: Any = _Remembering()
    vars(blocks)["inspect"] = vars(component_meta)["inspect"] = remembering
