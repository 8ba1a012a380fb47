"""What to draw: the two prompts, what the model reads of them, styles, and the buttons that begin and stop."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from danqing.ui.components.controls import menu, radio, text
from danqing.ui.components.icons import icon
from danqing.ui.render import bilingual
from danqing.ui.words import WORDS, both, label

if TYPE_CHECKING:
    from danqing.ui.board import Board

GUIDE = ("order", "commas", "weights", "schedule", "negative", "networks")

TRANSLATE = ("auto", "always", "never")


def build(board: Board) -> None:
    """The prompts, and below them the buttons that are always in reach."""
    with gr.Column(elem_id="dq-words"):
        with gr.Column(elem_id="dq-prompts"):
            hint, negative = label("prompt_hint"), label("negative_hint")
            text(board, "prompt", lines=3, max_lines=10, placeholder=hint)
            text(board, "negative_prompt", lines=1, max_lines=6, placeholder=negative, elem_id="dq-negative")
            with gr.Column(elem_id="dq-translation"):
                text(board, "english", lines=2)
                text(board, "english_negative", lines=1)
            gr.HTML(_guide(), elem_id="dq-guide", apply_default_css=False)
            gr.HTML('<div class="dq-browser" hidden></div>', elem_id="dq-browser", apply_default_css=False)
            _styles(board)
        _begin(board)


def _guide() -> str:
    """How prompts are written, folded up."""
    rows = "".join(f"<li>{bilingual(f'guide_{part}')} {_try(part)}</li>" for part in GUIDE)
    return f'<details class="dq-guide"><summary>{bilingual("guide")}</summary><ul>{rows}</ul></details>'


def _try(part: str) -> str:
    """A button that fills both prompts with an example."""
    told = "".join(
        f' data-{word}-{language}="{escape(text)}"'
        for word, key in (("prompt", f"guide_{part}_try"), ("negative", f"guide_{part}_not"))
        if key in WORDS
        for language, text in zip(("en", "zh"), both(key), strict=True)
    )
    # What is folded up has no text yet by which it could be called.
    name = escape(" ".join(both("guide_try")))
    button = (
        f'<button type="button" class="dq-tool" data-try aria-label="{name}"{told}>{bilingual("guide_try")}</button>'
    )
    return button if told else ""


def _styles(board: Board) -> None:
    with gr.Row(elem_id="dq-style-row"):
        menu(board, "styles", [], [], multiselect=True, scale=1)
        board.add("style_apply", icon("style_apply", "dq-style-apply"))
        board.add("style_save", icon("style_save", "dq-style-save"))
        board.add("style_delete", icon("style_delete", "dq-style-delete"))
    text(board, "style_name", elem_classes="dq-hidden", container=False)
    with gr.Row(elem_id="dq-preset-row"):
        menu(board, "preset", [], None, scale=1)
        board.add("preset_save", icon("preset_save", "dq-preset-save"))
        board.add("preset_delete", icon("preset_delete", "dq-preset-delete"))
    text(board, "preset_name", elem_classes="dq-hidden", container=False)
    menu(board, "options_pasted", [], [], multiselect=True, allow_custom_value=True)
    radio(board, "translate", [(f"translate_{one}", one) for one in TRANSLATE], "auto", elem_classes="dq-segments")


def _begin(board: Board) -> None:
    with gr.Row(elem_id="dq-begin"):
        board.add("generate", gr.Button(label("generate"), variant="primary", elem_id="dq-generate", scale=3))
        board.add("enlarge", gr.Button(label("enlarge"), variant="primary", elem_id="dq-enlarge", scale=3))
        stop = gr.Button(label("interrupt"), variant="stop", elem_id="dq-interrupt", scale=1, min_width=84)
        board.add("interrupt", stop)
        board.add("skip", icon("skip", "dq-skip-picture"))
        for name in ("forever", "read", "clear", "browse"):
            board.add(name, icon(name, f"dq-{name}"))
