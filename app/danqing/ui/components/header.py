"""The head of the page: the mark, the name, the model."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from danqing.ui import plugs
from danqing.ui.components.icons import icon
from danqing.ui.render import bilingual
from danqing.ui.words import both, label

if TYPE_CHECKING:
    from danqing.ui.board import Board

DESK = ("txt2img", "img2img", "inpaint", "extras")
"""Tabs that share the desk; the others are pages of their own."""
OFFICE = ("merge", "plugins", "system")
"""Tabs of administrators; the extensions are shown to everybody."""
TABS = (*DESK, "info", "gallery", "models", "train", "settings", "people", *OFFICE)

LOGO = Path(__file__).parent.parent / "static" / "logo.svg"


def build(board: Board) -> None:
    """The mark at the left; at the right the model and the switch between light and dark."""
    with gr.Row(elem_id="dq-head"):
        gr.HTML(_mark(), elem_id="dq-mark", apply_default_css=False)
        with gr.Row(elem_id="dq-model"):
            board.add(
                "model",
                gr.Dropdown(choices=[], label=label("model"), elem_id="dq-model-menu", filterable=False, scale=1),
            )
            board.add("refresh", icon("refresh", "dq-refresh"))
        gr.HTML(_language(), elem_id="dq-language", apply_default_css=False)
        gr.HTML(_switch(), elem_id="dq-theme", apply_default_css=False)
    more = [(gr.I18n()(key), key) for key in plugs.tabs()]
    choices = [*((label(tab), tab) for tab in TABS), *more]
    tabs = gr.Radio(choices, value=TABS[0], label=label("tab"), elem_id="dq-tabs", min_width=120)
    board.add("tab", tabs)


def styles() -> str:
    """The rules that show the desk on its tabs, and every page on its own."""
    desk = ", ".join(f'[data-tab="{tab}"]' for tab in DESK)
    pages = [tab for tab in (*TABS, *plugs.tabs()) if tab not in DESK]
    hidden = "\n".join(f'body:not([data-tab="{tab}"]) #dq-page-{tab} {{ display: none !important; }}' for tab in pages)
    return f"body:not({desk}) #dq-desk {{ display: none; }}\n{hidden}"


def _mark() -> str:
    return (
        f'<a class="dq-skip" href="#dq-prompt">{bilingual("to_text")}</a>'
        f'<div class="dq-mark">{LOGO.read_text("utf-8")}<h1><span lang="zh">丹青</span> <small>Danqing</small></h1>'
        f"<p>{bilingual('tagline')}</p></div>"
    )


def _language() -> str:
    """Says the other language in that language: its readers look for it."""
    return (
        '<button type="button" class="dq-switch" data-do="language"><span class="dq-en" lang="zh">中文</span>'
        '<span class="dq-zh" lang="en">EN</span></button>'
    )


def _switch() -> str:
    english, chinese = both("theme")
    return (
        f'<button type="button" class="dq-switch" data-do="theme" aria-label="{escape(english)} {escape(chinese)}">'
        '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="8.500" fill="none" stroke="currentColor"'
        ' stroke-width="1.800"/><path d="M12 3.500a8.500 8.500 0 0 1 0 17z" fill="currentColor"/></svg></button>'
    )
