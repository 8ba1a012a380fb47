"""How to draw it: size, sampler, steps, CFG, seed, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from danqing.engine.catalog import sampler_names, schedule_labels
from danqing.request import CHOICE_AUTOMATIC, GenerateRequest
from danqing.ui.components.icons import icon
from danqing.ui.fields import ASPECTS, STEP
from danqing.ui.words import label

if TYPE_CHECKING:
    from danqing.settings import Settings
    from danqing.ui.board import Board

DEFAULT = GenerateRequest()
SMALLEST = 64
"""Side in pixels where the size sliders begin; smaller ones may be asked for by the API."""


def build(board: Board, settings: Settings) -> None:
    """The boxes of the request that are not words."""
    with gr.Column(elem_id="dq-boxes"):
        _size(board, settings)
        _sampling(board, settings)
        _seed(board)
        _batch(board, settings)


def _size(board: Board, settings: Settings) -> None:
    top = settings.get_int("limit_side")
    with gr.Row(elem_id="dq-size"):
        board.add("width", gr.Slider(SMALLEST, top, DEFAULT.width, step=STEP, label=label("width"), elem_id="dq-width"))
        board.add("swap", icon("swap", "dq-swap"))
        board.add(
            "height", gr.Slider(SMALLEST, top, DEFAULT.height, step=STEP, label=label("height"), elem_id="dq-height")
        )
    with gr.Row(elem_id="dq-aspects"):
        for aspect in ASPECTS:
            board.add(f"aspect_{aspect}", gr.Button(aspect, size="sm", min_width=40, elem_classes="dq-chip"))


def _sampling(board: Board, settings: Settings) -> None:
    with gr.Row():
        names = sampler_names()
        board.add(
            "sampler",
            gr.Dropdown(names, value=DEFAULT.sampler, label=label("sampler"), elem_id="dq-sampler", min_width=140),
        )
        board.add(
            "scheduler",
            gr.Dropdown(
                schedule_labels(),
                value=CHOICE_AUTOMATIC,
                label=label("scheduler"),
                elem_id="dq-scheduler",
                min_width=140,
            ),
        )
    steps = settings.get_int("limit_steps")
    board.add("steps", gr.Slider(1, steps, DEFAULT.steps, step=1, label=label("steps"), elem_id="dq-steps"))
    board.add(
        "cfg_scale",
        gr.Slider(
            1, 30, DEFAULT.cfg_scale, step=0.5, label=label("cfg_scale"), info=label("cfg_info"), elem_id="dq-cfg"
        ),
    )


def _seed(board: Board) -> None:
    with gr.Row(elem_id="dq-seeds"):
        # A text box: JavaScript's numbers lose the last digits of seeds beyond 2**53.
        board.add(
            "seed",
            gr.Textbox(
                "-1", label=label("seed"), placeholder=label("seed_hint"), max_lines=1, elem_id="dq-seed", scale=1
            ),
        )
        board.add("seed_random", icon("seed_random", "dq-seed-random"))
        board.add("seed_reuse", icon("seed_reuse", "dq-seed-reuse"))


def _batch(board: Board, settings: Settings) -> None:
    with gr.Row():
        batch, images = settings.get_int("limit_batch"), settings.get_int("limit_images")
        board.add(
            "batch_size",
            gr.Slider(1, batch, 1, step=1, label=label("batch_size"), elem_id="dq-batch-size", min_width=140),
        )
        board.add("n_iter", gr.Slider(1, images, 1, step=1, label=label("n_iter"), elem_id="dq-n-iter", min_width=140))
