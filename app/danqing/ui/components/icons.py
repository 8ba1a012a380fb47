"""Buttons that show a sign and are called by a word."""

from __future__ import annotations

from typing import Any

import gradio as gr

from danqing.ui.words import label


def icon(key: str, elem_id: str) -> Any:
    """A button that shows a sign (drawn by the style sheet) and is called by its word."""
    return gr.Button(label(key), size="sm", elem_id=elem_id, elem_classes="dq-icon", min_width=38, scale=0)
