"""What to draw: the two prompts and the buttons that begin and stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from danqing.ui.words import label

if TYPE_CHECKING:
    from danqing.ui.board import Board


def build(board: Board) -> None:
    """The prompts, and below them the buttons that are always in reach."""
    with gr.Column(elem_id="dq-words"):
        board.add(
            "prompt",
            gr.Textbox(
                label=label("prompt"), placeholder=label("prompt_hint"), lines=3, max_lines=10, elem_id="dq-prompt"
            ),
        )
        board.add(
            "negative_prompt",
            gr.Textbox(
                label=label("negative_prompt"),
                placeholder=label("negative_hint"),
                lines=1,
                max_lines=6,
                elem_id="dq-negative",
            ),
        )
        with gr.Row(elem_id="dq-begin"):
            board.add("generate", gr.Button(label("generate"), variant="primary", elem_id="dq-generate", scale=3))
            board.add(
                "interrupt",
                gr.Button(label("interrupt"), variant="stop", elem_id="dq-interrupt", scale=1, min_width=84),
            )
