"""Places for input pictures: dropped, pasted, chosen, sent from elsewhere, painted on. `static/wells.js` gives them life."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from danqing.ui.components.controls import elem, hidden
from danqing.ui.render import bilingual
from danqing.ui.words import both

if TYPE_CHECKING:
    from danqing.ui.board import Board

SIGN = (
    '<svg viewBox="0 0 48 48" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2">'
    '<rect x="6" y="9" width="36" height="30" rx="4"/><circle cx="16" cy="19" r="3.500"/>'
    '<path d="M7 35l11-10 7 6 9-9 8 8" stroke-linejoin="round"/></svg>'
)


def well(board: Board, name: str, *, paint: str = "", painted: str = "", many: bool = False, word: str = "") -> None:
    """A place for a picture.

    Args:
        name: the box that holds the name under which the picture is kept; several with spaces between.
        paint: "mask" or "color" for a well that is painted on.
        painted: the box for what was painted.
        word: what it is called, where that is not `name`.
        many: several pictures may lie in it.
    """
    hidden(board, name, word)
    if painted:
        hidden(board, painted)
    attributes = f' data-well="{name}" data-box="{elem(name)}"'
    if paint:
        attributes += f' data-paint="{paint}" data-painted="{elem(painted)}"'
    if many:
        attributes += ' data-many="1"'
    html = f'<div class="dq-well"{attributes}>{_drop(many)}{_tray(word or name)}{_tools(paint)}</div>'
    gr.HTML(html, elem_classes="dq-well-frame", apply_default_css=False)


def _drop(many: bool) -> str:
    word = bilingual("well_drop_many" if many else "well_drop")
    return (
        f'<input type="file" accept="image/*" tabindex="-1" aria-hidden="true"{" multiple" if many else ""} hidden>'
        f'<button type="button" class="dq-drop" data-well-do="choose">{SIGN}<span>{word}</span></button>'
    )


def _tray(word: str) -> str:
    alt = escape(" ".join(both(word)))
    return f'<div class="dq-board" hidden><img alt="{alt}"><canvas></canvas></div><div class="dq-tray" hidden></div>'


def _tools(paint: str) -> str:
    tools = _button("well_remove", "remove")
    if paint:
        colour = (
            f'<label>{bilingual("well_colour")}<input type="color" value="#cb4b33"></label>' if paint == "color" else ""
        )
        mask = _button("well_mask", "mask") if paint == "mask" else ""
        brush = _button("well_brush", "brush", pressed=paint == "mask") + _button(
            "well_eraser", "eraser", pressed=False
        )
        size = f'<label>{bilingual("well_size")}<input type="range" min="2" max="200" value="32"></label>'
        tools = brush + size + colour + _button("well_undo", "undo") + _button("well_wipe", "wipe") + mask + tools
    hint = f"<p>{bilingual('well_hint_mask')}</p>" if paint == "mask" else ""
    return f'<div class="dq-tools" hidden>{tools}{hint}</div>'


def _button(word: str, action: str, pressed: bool | None = None) -> str:
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" class="dq-tool" data-well-do="{action}"{state}>{bilingual(word)}</button>'
