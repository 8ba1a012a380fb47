"""What came of it: the stage with the picture being drawn, and the strip of earlier pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from danqing.ui.render import bilingual

if TYPE_CHECKING:
    from danqing.ui.board import Board

SCRIPTS = Path(__file__).parent.parent / "static"


def stage(board: Board) -> None:
    """The stage. Its script sends `use` and `example` here; picking and viewing pictures stays in the browser."""
    script = (SCRIPTS / "stage.js").read_text("utf-8")
    with gr.Column(elem_id="dq-result"):
        board.add("stage", gr.HTML("", elem_id="dq-stage", js_on_load=script, apply_default_css=False))


def history(board: Board) -> None:
    """The strip of pictures, a heading above it."""
    script = (SCRIPTS / "stage.js").read_text("utf-8")
    with gr.Column(elem_id="dq-past"):
        gr.HTML(f'<h2 class="dq-heading">{bilingual("history")}</h2>', elem_id="dq-past-title", apply_default_css=False)
        board.add("history", gr.HTML("", elem_id="dq-history", js_on_load=script, apply_default_css=False))
