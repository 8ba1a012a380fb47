"""The page: laid out from `components`, driven by `drawing`, mounted on the app at `/`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import gradio as gr

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.ui.context import UiContext


def mount(app: FastAPI, context: UiContext) -> None:
    """Serves the page at `/` of `app`; routes that `app` declared before win.

    Must be called before the lifespan of `app` starts: Gradio hangs its own start-up into it.
    """
    if context.cache is not None:
        context.cache.mkdir(parents=True, exist_ok=True)
        os.environ["GRADIO_TEMP_DIR"] = str(context.cache)
    demo = build(context)
    gr.mount_gradio_app(app, demo, path="/", footer_links=[], run_history=False, enable_monitoring=False)
    # Gradio checks the paths of files that clients name only after `launch`; a mounted page would serve any file.
    demo.has_launched = True


def build(context: UiContext) -> gr.Blocks:
    """The page's component tree."""
    with gr.Blocks(title="Danqing 丹青", analytics_enabled=False) as demo:
        gr.Markdown("# Danqing 丹青")
    demo.queue(default_concurrency_limit=64, api_open=False)
    return demo
