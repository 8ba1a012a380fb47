"""The input pictures of the drawing tabs and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from danqing.engine import interrogators
from danqing.request import Extras, SoftInpainting
from danqing.ui.components.controls import check, elem, fold, hidden, menu, radio, slider
from danqing.ui.components.wells import well
from danqing.ui.fields import SOFT, STEP
from danqing.ui.words import label

if TYPE_CHECKING:
    from danqing.settings import Settings
    from danqing.ui.board import Board

DENOISE = 0.75
SOFT_RANGES = {
    "power": (0, 8, 0.1),
    "scale": (0, 8, 0.05),
    "detail": (1, 32, 0.5),
    "mask_influence": (0, 1, 0.05),
    "difference_threshold": (0, 8, 0.25),
    "difference_contrast": (0, 8, 0.25),
}


def build(board: Board, settings: Settings) -> None:
    """One part for each tab that begins with a picture; the style sheet shows the one of the tab."""
    hidden(board, "first_pass")
    with gr.Column(elem_id="dq-from-picture"):
        with gr.Column(elem_classes="dq-on-img2img"):
            well(board, "init", paint="color", painted="init_sketch", many=True)
        with gr.Column(elem_classes="dq-on-inpaint"):
            well(board, "inpaint_image", paint="mask", painted="inpaint_mask")
        with gr.Column(elem_classes="dq-on-image"):
            _interrogate(board)
            slider(board, "denoise", 0, 1, DENOISE, 0.01, info=label("denoise_info"))
            radio(board, "resize_mode", [(f"resize_{n}", n) for n in range(4)], 0, elem_classes="dq-segments")
        with gr.Column(elem_classes="dq-on-inpaint"):
            _inpaint(board)
        with gr.Column(elem_classes="dq-on-extras"):
            _extras(board, settings)


def _interrogate(board: Board) -> None:
    """Buttons that write into the prompt what is seen in the picture."""
    with gr.Row(elem_id="dq-interrogate"):
        for row in interrogators.ROWS:
            name = f"interrogate_{row.name}"
            board.add(name, gr.Button(label(name), size="sm", elem_id=elem(name), min_width=120))


def _inpaint(board: Board) -> None:
    slider(board, "mask_blur", 0, 64, 4, 1)
    radio(board, "mask_invert", [("mask_invert_0", 0), ("mask_invert_1", 1)], 0, elem_classes="dq-segments")
    radio(board, "mask_fill", [(f"fill_{n}", n) for n in range(4)], 1, elem_classes="dq-segments")
    radio(board, "mask_area", [("area_0", 0), ("area_1", 1)], 0, elem_classes="dq-segments")
    slider(board, "mask_padding", 0, 256, 32, 4)
    with fold(board, "soft_on"):
        defaults = SoftInpainting()
        for name in SOFT:
            low, high, step = SOFT_RANGES[name]
            slider(board, f"soft_{name}", low, high, getattr(defaults, name), step)


def _extras(board: Board, settings: Settings) -> None:
    defaults, top = Extras(), settings.get_int("limit_side")
    well(board, "extras_images", many=True)
    radio(board, "extras_mode", [("extras_mode_0", 0), ("extras_mode_1", 1)], 0, elem_classes="dq-segments")
    slider(board, "extras_resize", 1, 8, defaults.resize, 0.05)
    with gr.Row():
        slider(board, "extras_width", 64, 2 * top, defaults.width, STEP)
        slider(board, "extras_height", 64, 2 * top, defaults.height, STEP)
    check(board, "extras_crop", True)
    menu(board, "extras_upscaler_1", ["None", "Lanczos"], "Lanczos")
    with gr.Row():
        menu(board, "extras_upscaler_2", ["None"], "None")
        slider(board, "extras_visibility", 0, 1, 0, 0.01)
    slider(board, "extras_gfpgan", 0, 1, 0, 0.01)
    with gr.Row():
        slider(board, "extras_codeformer", 0, 1, 0, 0.01)
        slider(board, "extras_weight", 0, 1, 0, 0.01)
