"""How to draw it: size, sampler, steps, CFG, seed, batches, and the folded parts of the form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from danqing.engine.catalog import sampler_names, schedule_labels
from danqing.request import CHOICE_AUTOMATIC, GenerateRequest, Hires
from danqing.ui.components.controls import check, fold, menu, slider, text
from danqing.ui.components.icons import icon
from danqing.ui.fields import ASPECTS, STEP
from danqing.ui.words import label
from danqing.upscale.catalog import LATENT_MODES

if TYPE_CHECKING:
    from danqing.settings import Settings
    from danqing.ui.board import Board

DEFAULT = GenerateRequest()
HIRES = Hires()
HIRES_DENOISE = 0.7
SMALLEST = 64
"""Side in pixels where the size sliders begin; smaller ones may be asked for by the API."""


def build(board: Board, settings: Settings) -> None:
    """The boxes of the request that are not words."""
    _size(board, settings)
    _sampling(board, settings)
    _seed(board, settings)
    _batch(board, settings)
    with gr.Column(elem_id="dq-text-only"), fold(board, "hires_on"):
        _hires(board, settings)
    with fold(board, "refiner_on"):
        menu(board, "refiner_checkpoint", [(label("none"), "")], "")
        slider(board, "refiner_switch_at", 0.01, 1, 0.8, 0.01)
    with gr.Accordion(label("more"), open=False, elem_id="dq-more"):
        slider(board, "clip_skip", 1, 12, DEFAULT.clip_skip, 1)
        slider(board, "s_min_uncond", 0, 15, 0, 0.1)
        with gr.Row():
            check(board, "tiling")
            check(board, "restore_faces")


def _size(board: Board, settings: Settings) -> None:
    top = settings.get_int("limit_side")
    with gr.Row(elem_id="dq-size"):
        slider(board, "width", SMALLEST, top, DEFAULT.width, STEP)
        board.add("swap", icon("swap", "dq-swap"))
        slider(board, "height", SMALLEST, top, DEFAULT.height, STEP)
    with gr.Row(elem_id="dq-aspects"):
        for aspect in ASPECTS:
            board.add(f"aspect_{aspect}", gr.Button(aspect, size="sm", min_width=40, elem_classes="dq-chip"))


def _sampling(board: Board, settings: Settings) -> None:
    with gr.Row():
        menu(board, "sampler", sampler_names(), DEFAULT.sampler)
        menu(board, "scheduler", schedule_labels(), CHOICE_AUTOMATIC)
    menu(board, "vae", [CHOICE_AUTOMATIC], CHOICE_AUTOMATIC)
    slider(board, "steps", 1, settings.get_int("limit_steps"), DEFAULT.steps, 1)
    slider(board, "cfg_scale", 1, 30, DEFAULT.cfg_scale, 0.5, info=label("cfg_info"), elem_id="dq-cfg")


def _seed(board: Board, settings: Settings) -> None:
    with gr.Row(elem_id="dq-seeds"):
        # A text box: JavaScript's numbers lose the last digits of seeds beyond 2**53.
        text(board, "seed", "-1", placeholder=label("seed_hint"), max_lines=1, scale=1)
        board.add("seed_random", icon("seed_random", "dq-seed-random"))
        board.add("seed_reuse", icon("seed_reuse", "dq-seed-reuse"))
    top = settings.get_int("limit_side")
    with fold(board, "variation_on"):
        text(board, "subseed", "-1", placeholder=label("seed_hint"), max_lines=1)
        slider(board, "subseed_strength", 0, 1, 0, 0.01)
        with gr.Row():
            slider(board, "seed_resize_from_w", 0, top, 0, STEP)
            slider(board, "seed_resize_from_h", 0, top, 0, STEP)


def _batch(board: Board, settings: Settings) -> None:
    with gr.Row():
        slider(board, "batch_size", 1, settings.get_int("limit_batch"), 1, 1)
        slider(board, "n_iter", 1, settings.get_int("limit_images"), 1, 1)


def _hires(board: Board, settings: Settings) -> None:
    top = settings.get_int("limit_side")
    same = [(label("same"), "")]
    menu(board, "hires_upscaler", tuple(LATENT_MODES), HIRES.upscaler)
    with gr.Row():
        slider(board, "hires_scale", 1, 4, HIRES.scale, 0.05)
        slider(board, "hires_denoise", 0, 1, HIRES_DENOISE, 0.01)
    slider(board, "hires_steps", 0, settings.get_int("limit_steps"), 0, 1)
    with gr.Row():
        slider(board, "hires_resize_x", 0, top, 0, STEP)
        slider(board, "hires_resize_y", 0, top, 0, STEP)
    menu(board, "hires_checkpoint", same, "")
    with gr.Row():
        menu(board, "hires_sampler", [*same, *sampler_names()], "")
        menu(board, "hires_scheduler", [*same, *schedule_labels()], "")
    text(board, "hires_prompt", lines=2, placeholder=label("hires_same"))
    text(board, "hires_negative_prompt", placeholder=label("hires_same"))
