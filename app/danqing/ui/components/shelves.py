"""The tabs that are pages of their own: filled by `static/shelves.js` from the routes when they are opened."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from danqing.ui import plugs
from danqing.ui.components.header import OFFICE
from danqing.ui.components.wells import well
from danqing.ui.render import bilingual
from danqing.ui.words import both

if TYPE_CHECKING:
    from danqing.ui.board import Board


def build(board: Board) -> None:
    """Picture information, gallery, models, settings."""
    with gr.Column(elem_id="dq-page-info", elem_classes="dq-page"):
        well(board, "info_image")
        gr.HTML(_information(), elem_id="dq-information", apply_default_css=False)
    for name, tools in (
        ("gallery", _gallery_tools()),
        ("models", ""),
        ("train", ""),
        ("settings", _settings_tools()),
    ):
        _page(name, tools)
    for name in ("people", *OFFICE):
        _page(name)
    for name, (_, tab) in plugs.tabs().items():
        # The script asks the plug-in for what stands in it.
        _page(name, more=f'data-plug data-title="{escape(tab.name)}"')


def _page(name: str, tools: str = "", more: str = "") -> None:
    with gr.Column(elem_id=f"dq-page-{name}", elem_classes="dq-page"):
        gr.HTML(f'{tools}<div class="dq-shelf" data-shelf="{name}" {more}></div>', apply_default_css=False)


def _information() -> str:
    return (
        '<pre class="dq-info" tabindex="0" hidden></pre><div class="dq-actions" hidden>'
        + "".join(
            _button(f"send_{tab}", "send", f'data-tab="{tab}"') for tab in ("txt2img", "img2img", "inpaint", "extras")
        )
        + f'</div><p class="dq-none" hidden>{bilingual("info_none")}</p>'
    )


def _gallery_tools() -> str:
    chosen = "".join(_button(word, act) for word, act in (("download_zip", "zip"), ("delete", "delete")))
    return (
        f'<div class="dq-shelf-tools">{_search("search", "gallery")}'
        f"{_placed('input type=text maxlength=200 data-of-model', 'search_model')}"
        f'<label>{bilingual("since")}<input type="date" data-since></label>'
        f'<label>{bilingual("until")}<input type="date" data-until></label>'
        f'<label><input type="checkbox" data-liked>{bilingual("only_favourites")}</label>'
        f'<span class="dq-chosen" hidden><b></b> {bilingual("selected")} {chosen}'
        f"{_share()}</span>"
        f'<span class="dq-gone" hidden><b></b> {bilingual("deleted")} {_button("undo", "undo")}</span></div>'
    )


def _settings_tools() -> str:
    """The search, and for administrators whose settings are shown; an option has no room for two languages side by side."""
    cells = "".join(
        f'<label><input type="radio" name="dq-whose" value="{value}"{" checked" if not value else ""}>{bilingual(word)}</label>'
        for word, value in (("settings_mine", ""), ("settings_box", "1"), ("settings_service", "2"))
    )
    whose = f'<fieldset class="dq-whose"><legend>{bilingual("settings_whose")}</legend>{cells}</fieldset>'
    return f'<div class="dq-shelf-tools">{_search("search_settings", "settings")}{whose}</div>'


def _share() -> str:
    english, chinese = (escape(text) for text in both("people_shared"))
    data = f'data-share data-en="{english}" data-zh="{chinese}"'
    return f'<button type="button" class="dq-button" {data}>{bilingual("people_share")}</button>'


def _search(word: str, shelf: str) -> str:
    return _placed(f'input type="search" data-search="{shelf}"', word)


def _placed(tag: str, word: str) -> str:
    """An empty box that says inside what it is for, in the page's language."""
    english, chinese = both(word)
    return f'<{tag} data-en="{escape(english)}" data-zh="{escape(chinese)}">'


def _button(word: str, act: str, more: str = "") -> str:
    return f'<button type="button" class="dq-button" data-shelf-do="{act}" {more}>{bilingual(word)}</button>'
