"""Boxes of plug-ins' scripts: always-on ones in folds of their own, selectable ones where scripts are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.ui import plugs, scripts
from danqing.ui.components.controls import elem

if TYPE_CHECKING:
    from danqing.engine.scripts.table import Arg, ScriptRow
    from danqing.ui.board import Board


def always_on(board: Board) -> None:
    """A fold for each script."""
    for row, _ in plugs.always_on():
        name = gr.I18n()(f"title_{row.name}")
        with gr.Accordion(name, open=False, elem_id=f"dq-plug-{scripts.slug(row)}", elem_classes="dq-plug"):
            _boxes(board, row)


def selectable(board: Board) -> None:
    """Boxes that show when their script is chosen."""
    for row, _ in plugs.selectable():
        with gr.Column(elem_classes=f"dq-script dq-script-{scripts.slug(row)}"):
            _boxes(board, row)


def _boxes(board: Board, row: ScriptRow) -> None:
    for arg in row.args:
        name = scripts.box(row, arg)
        board.add(name, _component(arg, {"label": gr.I18n()(name), "elem_id": elem(name), "min_width": 120}))
        board.plugged.append(name)


def _component(arg: Arg, shared: dict[str, Any]) -> Any:
    if arg.choices:
        return gr.Dropdown(list(arg.choices), value=arg.default, **shared)
    if isinstance(arg.default, bool):
        return gr.Checkbox(arg.default, **shared)
    if isinstance(arg.default, int | float):
        step = arg.step or (1 if isinstance(arg.default, int) else 0.01)
        return gr.Slider(arg.minimum, arg.maximum, arg.default, step=step, **shared)
    return gr.Textbox(arg.default, max_lines=6, **shared)
