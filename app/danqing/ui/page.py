"""The page: laid out from `components`, driven by `drawing` and `boxes`, mounted on the app at `/`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.routing import Mount

from danqing.engine import interrogators
from danqing.ui import plugs, words
from danqing.ui.assets import Assets
from danqing.ui.board import Board
from danqing.ui.boxes import Boxes
from danqing.ui.components import extensions, header, parameters, pictures, prompt, result, shelves
from danqing.ui.components.controls import elem
from danqing.ui.drawing import Drawing
from danqing.ui.fields import ASPECTS, NAMES
from danqing.ui.office import Office
from danqing.ui.pace import quicken
from danqing.ui.people import People
from danqing.ui.preset_boxes import PresetBoxes
from danqing.ui.routes import Routes
from danqing.ui.session import Session
from danqing.ui.shell import Shell
from danqing.ui.stock import Stock
from danqing.ui.theme import theme
from danqing.ui.training import TrainingTab
from danqing.ui.units import UNITS
from danqing.ui.units import box as unit_box
from danqing.ui.words_control import IN_BROWSER
from danqing.ui.words_help import HELP

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.ui.context import UiContext

STATIC = Path(__file__).parent / "static"

SENT = ("send_img2img", "send_inpaint", "send_extras")
ASKED = ("style_name", "preset_name", "tokens", "info_none", "well_none")
SPOKEN = (
    "close",
    "previous",
    "next",
    "download",
    "copy",
    "copied",
    "use",
    "lost",
    "error_title",
    "logged_out",
    "no_picture",
    "too_large",
    *SENT,
    *ASKED,
    *IN_BROWSER,
)
"""Words that the script in the browser says."""

SCRIPTS, STYLES = (
    ("page", "wells", "control", "pose", "writing", "shelves", "office", "people", "train"),
    ("danqing", "desk", "control", "office", "people", "train"),
)
"""Files of `static` that go into the head, in order."""

WELLS = ("init", "inpaint_image", "extras_images", "info_image", *(unit_box(n, "image") for n in range(UNITS)))
"""Boxes that hold input pictures."""

OTHER_IDS = {"negative_prompt": "dq-negative", "cfg_scale": "dq-cfg", "model": "dq-model-menu"}
"""Controls whose ids are not their names."""

SESSION_SECONDS = 24 * 3600
"""How long the server remembers a page that went away."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
"""Our stage shows the progress, the API is `/sdapi/v1`, and `fields` checks: Gradio's own complaints are English only."""


def mount(app: FastAPI, context: UiContext) -> None:
    """Serves the page at `/` of `app`; routes that `app` declared before win.

    Must be called before the lifespan of `app` starts: Gradio hangs its own start-up into it.
    """
    if context.cache is not None:
        context.cache.mkdir(parents=True, exist_ok=True)
        os.environ["GRADIO_TEMP_DIR"] = str(context.cache)
    for routes in (Routes(context), Office(context), Stock(context), TrainingTab(context), People(context)):
        routes.add_to(app)
    demo = build(context, Board())
    gr.mount_gradio_app(
        app,
        demo,
        path="/",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        favicon_path=str(STATIC / "logo.svg"),
        i18n=words.tables(plugs.words()),
        theme=theme(),
        max_file_size="64mb",
    )
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = Shell(Assets(mounted.app), _head(), context.settings.get_str("page_language"))
    quicken(demo)
    # Gradio checks the paths of files that clients name only after `launch`; a mounted page would serve any file.
    demo.has_launched = True


def build(context: UiContext, board: Board) -> gr.Blocks:
    """The page's component tree with its handlers; `board` learns the names of its components."""
    with gr.Blocks(title="Danqing 丹青", analytics_enabled=False, fill_width=True) as demo:
        _remembered(board)
        header.build(board)
        with gr.Row(elem_id="dq-desk"):
            with gr.Column(elem_id="dq-left"):
                prompt.build(board)
                pictures.build(board, context.settings)
                with gr.Column(elem_id="dq-boxes"):
                    parameters.build(board, context.settings)
                    extensions.build(board)
            result.stage(board)
            result.history(board)
        shelves.build(board)
        _wire(demo, board, Drawing(context, board), Boxes(context, board))
    # Waiting for pictures is our own queue's business: Gradio's must never be the one that holds somebody back.
    demo.queue(default_concurrency_limit=None, api_open=False)
    return demo


def _remembered(board: Board) -> None:
    """What is not seen: the session, the picture picked, and the last drawing as this browser keeps it."""
    board.add("session", gr.State(Session(), time_to_live=SESSION_SECONDS))
    board.add("picked", gr.Textbox(visible=False))
    board.add("draft", gr.BrowserState(None, storage_key="danqing-draft", secret="danqing"))


def _wire(demo: gr.Blocks, board: Board, drawing: Drawing, boxes: Boxes) -> None:
    asked = board.some("session", *NAMES, *board.plugged)
    shown = list(board.some("stage", "history"))
    filled = list(board.some(*NAMES, *board.plugged))
    sized = list(board.some("width", "height"))

    def draws(event: Any) -> None:
        handed_in = event(
            drawing.submit,
            asked,
            [board["stage"], board["draft"], board["first_pass"]],
            trigger_mode="multiple",
            **QUIET,
        )
        watches(handed_in.success)

    def watches(event: Any) -> None:
        event(drawing.watch, board.some("session"), shown, trigger_mode="multiple", **QUIET)

    def fills(event: Any, handler: Callable[..., Any], takes: set[Any], gives: list[Any], **more: Any) -> Any:
        return event(handler, takes, gives, **more, **QUIET)

    model = board.some("model")
    for button in ("generate", "enlarge"):
        # What was painted goes to the server first; the boxes are read after that.
        draws(board[button].click(None, [], [], js="() => window.danqing.settled()", **QUIET).then)
    draws(fills(board["stage"].example, boxes.example, model, [board["prompt"]]).success)
    fills(board["interrupt"].click, drawing.interrupt, board.some("session"), [])
    fills(board["skip"].click, drawing.skip, board.some("session"), [])
    fills(board["stage"].use, boxes.use, model, filled)
    fills(board["stage"].model, boxes.model_named, model, [board["model"], *sized, board["cfg_scale"]])
    fills(board["stage"].vae, boxes.vae_named, model, [board["vae"]])
    fills(board["stage"].paste, boxes.paste, model, filled)
    fills(board["refresh"].click, boxes.refresh, model, filled)
    fills(board["model"].input, boxes.model_chosen, model, [*sized, board["cfg_scale"]])
    for aspect in ASPECTS:
        fills(board[f"aspect_{aspect}"].click, boxes.aspect(aspect), model, sized)
    board["swap"].click(None, sized, sized, js="(a, b) => [b, a]", **QUIET)
    board["seed_random"].click(None, None, [board["seed"]], js="() => '-1'", **QUIET)
    fills(
        board["seed_reuse"].click,
        boxes.reuse_seed,
        board.some("picked"),
        [board["seed"]],
        js="() => window.danqing.picked()",
    )
    for name in (row.name for row in interrogators.ROWS):
        seen = board.some("tab", "init", "inpaint_image")
        handler = boxes.interrogate(name)
        board[f"interrogate_{name}"].click(handler, seen, [board["prompt"]], **QUIET)
    _styles(board, boxes)
    _presets(demo, board, PresetBoxes(boxes), filled)
    _in_browser(board, boxes)
    texts = [board["prompt"], board["negative_prompt"]]
    looked = fills(demo.load, boxes.first_look, board.some("draft"), filled)
    looked.then(None, texts, texts, js="(...texts) => window.danqing.written(...texts)", **QUIET)
    watches(fills(demo.load, drawing.resume, board.some("session"), shown).success)


def _styles(board: Board, boxes: Boxes) -> None:
    """The buttons of the styles; the name of a new one is asked for in the browser."""
    texts = board.some("prompt", "negative_prompt", "styles")
    prompts = [board["prompt"], board["negative_prompt"], board["styles"]]
    board["style_apply"].click(boxes.style_apply, texts, prompts, **QUIET)
    named = board["style_save"].click(None, [], [board["style_name"]], js="() => window.danqing.askStyle()", **QUIET)
    kept = [board["styles"], board["style_name"]]
    named.then(boxes.style_save, board.some("prompt", "negative_prompt", "style_name"), kept, **QUIET)
    board["style_delete"].click(boxes.style_delete, board.some("styles"), kept, **QUIET)


def _presets(demo: gr.Blocks, board: Board, boxes: PresetBoxes, filled: list[Any]) -> None:
    """All boxes under a name, and back."""
    kept = [board["preset"], board["preset_name"]]
    asked = board.some(*NAMES, *board.plugged, "preset_name")
    named = board["preset_save"].click(None, [], [board["preset_name"]], js="() => window.danqing.askPreset()", **QUIET)
    named.then(boxes.save, asked, kept, **QUIET)
    board["preset_delete"].click(boxes.delete, board.some("preset"), kept, **QUIET)
    board["preset"].input(boxes.load, board.some("preset", "model"), filled, **QUIET)
    demo.load(boxes.first, board.some("preset"), [board["preset"]], **QUIET)


def _in_browser(board: Board, boxes: Boxes) -> None:
    """What only moves things on the page, and the axes of a plot."""
    scripts = [board["tab"], board["script_txt2img"], board["script_img2img"]]
    for one in scripts:
        one.change(None, scripts, [], js="(...all) => { window.danqing.tab(...all); }", **QUIET)
    for name in WELLS:
        box = board[name]
        box.change(None, [box], [], js=f"(value) => {{ window.danqing.well('{name}', value); }}", **QUIET)
    for letter in "xyz":
        axis, kind = f"script_x-y-z-plot_{letter}_values", f"script_x-y-z-plot_{letter}_type"
        board[f"fill_{axis}"].click(boxes.fill_axis(axis, kind), board.some(kind), [board[axis]], **QUIET)
    for number in range(UNITS):
        parts = [board[unit_box(number, part)] for part in ("image", "module", "res", "a", "b")]
        script = f"(...all) => {{ window.danqing.preprocess({number}, ...all); }}"
        board[f"control{number}_preview"].click(None, parts, [], js=script, **QUIET)
        for action, call in (("sketch", "sketch"), ("pose", "pose"), ("is_map", "isMap")):
            script = f"() => {{ window.danqing.{call}({number}); }}"
            board[f"control{number}_{action}"].click(None, [], [], js=script, **QUIET)
        kind, made = board[f"control{number}_type"], board[f"control{number}_made"]
        menus = [board[unit_box(number, part)] for part in ("module", "model")]
        choices = [*board.some("model"), kind]
        kind.input(boxes.control_type(number), {*choices}, menus, **QUIET)
        made.change(
            boxes.control_made(number), {*choices, made, *menus}, [*menus, kind, board[unit_box(number, "on")]], **QUIET
        )


def tips() -> dict[str, tuple[str, str]]:
    """What each control does, by its id in the document."""
    found: dict[str, tuple[str, str]] = {}
    for name, pair in HELP.items():
        part = name.removeprefix("control_")
        if part != name:
            found |= {elem(unit_box(number, part)): pair for number in range(UNITS)}
        else:
            found[OTHER_IDS.get(name) or elem(name)] = pair
    return found


def _head() -> str:
    """Style, scripts and words of the parts that live in the browser; Gradio would rewrite the selectors of a `css`."""
    spoken = json.dumps({key: words.both(key) for key in SPOKEN})
    scripts = "\n".join((STATIC / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    styles = (
        "\n".join((STATIC / f"{name}.css").read_text("utf-8") for name in STYLES) + extensions.style() + header.styles()
    )
    script = scripts.replace("__WORDS__", spoken).replace("__HELP__", json.dumps(tips()))
    return f'<meta name="color-scheme" content="light dark"><style>{styles}</style><script>{script}</script>'
