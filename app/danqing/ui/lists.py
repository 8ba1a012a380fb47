"""What the menus of the page offer: what is on this machine's disk. Everything here blocks and belongs into a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.control import catalog
from danqing.engine.catalog import sampler_names, schedule_labels
from danqing.library.controls import Controls
from danqing.library.index import MINI
from danqing.library.vaes import AUTOMATIC, NONE, vae_files
from danqing.prompt.styles import styles_of
from danqing.request import CHOICE_AUTOMATIC
from danqing.ui import units
from danqing.ui.words import say
from danqing.upscale.catalog import LATENT_MODES, upscalers

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.library.index import Checkpoint
    from danqing.ui.context import UiContext

Choices = list[tuple[str, str]]


def menus(context: UiContext, models: list[Checkpoint], language: Language, owner: str) -> dict[str, Any]:
    """Updates of all menus but the model's, by box; values stay as they are."""
    same = [(say("same", language), "")]
    checkpoints = [(model.model_name, model.title) for model in models]
    enlargers = [(say("none", language) if row.name == NONE else row.name, row.name) for row in upscalers(context.data)]
    found: dict[str, Choices] = {
        "scheduler": schedules(language),
        "vae": [
            (say("automatic", language), AUTOMATIC),
            (say("none", language), NONE),
            *_plain(vae_files(context.data)),
        ],
        "styles": _plain(one.name for one in styles_of(context.data, owner) if not one.divider),
        "hires_upscaler": [*_plain(LATENT_MODES), *enlargers],
        "hires_checkpoint": [*same, *checkpoints],
        "hires_sampler": [*same, *_plain(sampler_names())],
        "hires_scheduler": [*same, *schedules(language)],
        "refiner_checkpoint": [(say("none", language), ""), *checkpoints],
        "extras_upscaler_1": enlargers,
        "extras_upscaler_2": enlargers,
        "script_sd-upscale_upscaler": enlargers,
    }
    control = [(say("none", language), NONE), *_plain(row.title for row in Controls(context.data).all())]
    found |= {units.box(number, "model"): control for number in range(units.UNITS)}
    return {name: gr.Dropdown(choices=choices) for name, choices in found.items()}


def control_menus(context: UiContext, kind: str, checkpoint: str, language: Language) -> dict[str, Any]:
    """A unit's menus for a control type, by part, its usual preprocessor and a model for the checkpoint chosen."""
    titles = catalog.models_of_type(kind, [row.title for row in Controls(context.data).all()])
    small = MINI.stem in checkpoint
    fitting = [title for title in titles if title.startswith(MINI.stem) == small]
    modules = [(row.label, row.name) for row in catalog.of_type(kind)]
    return {
        "module": gr.Dropdown(choices=modules, value=catalog.default_of(kind).name),
        "model": gr.Dropdown(
            choices=[(say("none", language), NONE), *_plain(titles)],
            value=NONE if kind == "All" else catalog.default_model(fitting),
        ),
    }


def axis_values(context: UiContext, label: str) -> list[str]:
    """Every value that an axis of a plot can take, [] for one that is counted."""
    match label:
        case "Sampler" | "Hires sampler":
            return sampler_names()
        case "Schedule type":
            return schedule_labels()
        case "Checkpoint name" | "Refiner checkpoint":
            return [model.name for model in context.library.checkpoints()]
        case "Hires upscaler":
            return [*LATENT_MODES, *(row.name for row in upscalers(context.data))]
        case "VAE":
            return [AUTOMATIC, NONE, *vae_files(context.data)]
        case "Styles":
            return [style.name for style in styles_of(context.data, "") if not style.divider]
        case "RNG source":
            return ["GPU", "CPU", "NV"]
        case "Always discard next-to-last sigma" | "SGM noise multiplier":
            return ["False", "True"]
        case _:
            return []


def schedules(language: Language) -> Choices:
    """Schedule types, the automatic one in the reader's language."""
    return [(say("automatic", language) if x == CHOICE_AUTOMATIC else x, x) for x in schedule_labels()]


def _plain(names: Any) -> Choices:
    return [(name, name) for name in names]
