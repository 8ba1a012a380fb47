"""Scripts and ControlNet units, below the boxes of both drawing tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.control.catalog import TYPES, rows
from danqing.engine.scripts.axes import AXES
from danqing.engine.scripts.table import SCRIPTS, Arg, ScriptRow
from danqing.ui import plugs as of_plugins
from danqing.ui import scripts, units
from danqing.ui.components import plugs
from danqing.ui.components.controls import check, elem, hidden, menu, radio, slider
from danqing.ui.components.icons import icon
from danqing.ui.components.wells import well
from danqing.ui.words import label

if TYPE_CHECKING:
    from danqing.ui.board import Board

LINES = {"prompt_txt": 6}
PLOT = "x/y/z plot"


def build(board: Board) -> None:
    """Plug-ins and units first, then the script and its arguments."""
    plugs.always_on(board)
    for number in range(units.UNITS):
        _unit(board, number)
    for tab in ("txt2img", "img2img"):
        choices = [(label("none"), ""), *((label(f"title_{row.name}"), row.name) for row in SCRIPTS if tab in row.tabs)]
        choices += [(gr.I18n()(f"title_{row.name}"), row.name) for row, _ in of_plugins.selectable() if tab in row.tabs]
        with gr.Column(elem_classes=f"dq-script-of-{tab}"):
            menu(board, f"script_{tab}", choices, "", "script")
    for row in SCRIPTS:
        with gr.Column(elem_classes=f"dq-script dq-script-{scripts.slug(row)}"):
            for arg in scripts.shown(row):
                _argument(board, row, arg)
    plugs.selectable(board)


def style() -> str:
    """The rules that show the arguments of the chosen script; the page's scripts name it on the body."""
    return (
        "\n".join(
            f'body:not([data-script="{name}"]) .dq-script-{name} {{ display: none !important; }}'
            for name in map(scripts.slug, SCRIPTS)
        )
        + of_plugins.styles()
    )


def _argument(board: Board, row: ScriptRow, arg: Arg) -> None:
    name, word, value = scripts.box(row, arg), label(f"arg_{arg.name}"), arg.default
    shared: dict[str, Any] = {"label": word, "elem_id": elem(name), "min_width": 120}
    if row.name == PLOT and arg.name.endswith("_values"):
        with gr.Row(elem_classes="dq-axis"):
            board.add(name, gr.Textbox(value, **shared, scale=1, max_lines=4))
            board.add(f"fill_{name}", icon("fill_values", f"dq-fill-{arg.name[0]}"))
        return
    board.add(name, _component(row, arg, shared))


def _component(row: ScriptRow, arg: Arg, shared: dict[str, Any]) -> Any:
    if row.name == PLOT and arg.name.endswith("_type"):
        return gr.Dropdown([(label(f"axis_{axis.label}"), axis.label) for axis in AXES], value=arg.default, **shared)
    if arg.name == "upscaler":
        return gr.Dropdown(["None"], value=arg.default, **shared)
    if arg.choices is not None:
        choices = [(label(f"choice_{one}"), one) for one in arg.choices]
        kind = gr.CheckboxGroup if isinstance(arg.default, tuple) else gr.Radio
        value = list(arg.default) if isinstance(arg.default, tuple) else arg.default
        return kind(choices, value=value, **shared, elem_classes="dq-segments")
    if isinstance(arg.default, bool):
        return gr.Checkbox(arg.default, **shared)
    if isinstance(arg.default, int | float):
        return gr.Slider(arg.minimum or 0, arg.maximum or 100, arg.default, step=arg.step, **shared)
    return gr.Textbox(arg.default, lines=LINES.get(arg.name, 1), max_lines=12, **shared)


def _unit(board: Board, number: int) -> None:
    def box(part: str) -> str:
        return units.box(number, part)

    with gr.Accordion(
        f"{label('control')} {number + 1}", open=False, elem_id=f"dq-control-{number}", elem_classes="dq-control"
    ):
        check(board, box("on"), word="control_on")
        kinds = [(label("type_all"), "All"), *((kind, kind) for kind in TYPES if kind != "All")]
        menu(board, box("type"), kinds, "All", "control_type")
        well(board, box("image"), word="control_image")
        with gr.Row(elem_classes="dq-unit-tools"):
            for action in ("sketch", "pose", "is_map"):
                look: dict[str, Any] = {"size": "sm", "min_width": 110, "elem_id": elem(box(action))}
                board.add(box(action), gr.Button(label(f"control_{action}"), **look))
        hidden(board, box("made"), "control_image")
        menu(board, box("module"), [(row.label, row.name) for row in rows()], "none", "control_module")
        menu(board, box("model"), [(label("none"), "None")], "None", "control_model")
        board.add(box("preview"), gr.Button(label("control_preview"), size="sm", elem_id=elem(box("preview"))))
        gr.HTML(f'<div data-map="{number}" aria-live="polite" hidden></div>', apply_default_css=False)
        slider(board, box("weight"), 0, 2, 1, 0.05, "control_weight")
        with gr.Row():
            slider(board, box("start"), 0, 1, 0, 0.01, "control_start")
            slider(board, box("end"), 0, 1, 1, 0.01, "control_end")
        check(board, box("perfect"), word="control_perfect")
        for part, table, word in (
            ("mode", units.MODES, "control_mode"),
            ("resize", units.FITS, "control_resize"),
            ("hires", units.PASSES, "control_hires"),
        ):
            pairs = list(table.items())
            usual = "Crop and Resize" if part == "resize" else pairs[0][1]
            radio(board, box(part), pairs, usual, word, elem_classes="dq-segments")
        slider(board, box("res"), -1, 2048, -1, 1, "control_res")
        with gr.Row():
            slider(board, box("a"), -1, 255, -1, 0.01, "control_a")
            slider(board, box("b"), -1, 255, -1, 0.01, "control_b")
