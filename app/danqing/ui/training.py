"""The training tab: its form, filled and driven by `static/train.js` through the same routes that programs use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, get_args

from starlette.requests import Request
from starlette.responses import Response

from danqing.engine import interrogators
from danqing.train.recipe import (
    ACTIVATIONS,
    METHODS,
    PRESETS,
    Initialization,
    Optimizer,
    Precision,
    PriorTarget,
    Schedule,
)
from danqing.ui.answers import html, reader
from danqing.ui.words import say
from danqing.ui.words_training import TRAINING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.errors import Language
    from danqing.ui.context import UiContext

LORA = "lora dreambooth_lora"
PRIOR = f"{LORA} dreambooth hypernetwork"
"""Methods that change other pictures too. An embedding does not."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the recipe as the form has it. `methods`: those that it is for, "" for all."""

    name: str
    kind: str = "number"
    """number, whole, check, text, numbers (between commas), lines, choice"""
    methods: str = ""
    choices: tuple[str, ...] = ()


FIRST = (
    Field("trigger", "text", PRIOR),  # an embedding's word is its file's name
    Field("caption_source", "choice", choices=("template", "sidecar", "filename")),
    Field("template", "lines"),
    Field("vectors", "whole", "textual_inversion"),
    Field("initial_text", "text", "textual_inversion"),
    Field("class_prompt", "lines", PRIOR),
    Field("class_pictures", "whole", PRIOR),
    Field("rank", "whole", LORA),
    Field("steps", "whole"),
    Field("learning_rate"),
    Field("batch_size", "whole"),
    Field("resolution", "whole"),
    Field("sample_every", "whole"),
    Field("sample_prompts", "lines"),
)
"""What people change."""

MORE = (
    Field("gradient_accumulation", "whole"),
    Field("schedule", "choice", choices=tuple(one for one in get_args(Schedule) if one != "piecewise_constant")),
    Field("warmup", "whole"),
    Field("train_text_encoder", "check", f"{LORA} dreambooth"),
    Field("text_encoder_learning_rate", methods=f"{LORA} dreambooth"),
    Field("alpha", methods=LORA),
    Field("conv_rank", "whole", LORA),
    Field("lr_plus_ratio", methods=LORA),
    Field("prior_weight", methods=PRIOR),
    Field("prior_target", "choice", PRIOR, get_args(PriorTarget)),
    Field("hypernetwork_layers", "numbers", "hypernetwork"),
    Field("hypernetwork_activation", "choice", "hypernetwork", ACTIVATIONS),
    Field("hypernetwork_initialization", "choice", "hypernetwork", get_args(Initialization)),
    Field("hypernetwork_layer_norm", "check", "hypernetwork"),
    Field("hypernetwork_dropout", methods="hypernetwork"),
    Field("buckets", "check"),
    Field("flip", "check"),
    Field("masks", "check"),
    Field("caption_dropout"),
    Field("shuffle_tags", "check"),
    Field("min_snr_gamma"),
    Field("noise_offset"),
    Field("ema"),
    Field("precision", "choice", choices=get_args(Precision)),
    Field("optimizer", "choice", choices=get_args(Optimizer)),
    Field("gradient_checkpointing", "check"),
    Field("seed", "whole"),
    Field("save_every", "whole"),
    Field("share"),
)

SPOKEN = (
    *("train_set_new", "train_set_sure", "train_counts", "train_caption", "train_need", "train_need_too_much"),
    *("train_none", "train_step", "train_loss", "train_pause", "train_resume", "train_cancel", "train_cancel_sure"),
    *("train_samples", "train_result", "train_chart", "train_uploading", "train_buckets", "train_seeing", "train_save"),
    *("train_again", "train_picture_remove", "train_picture_sure", "train_left_s", "train_left_min", "train_left_h"),
    *(f"train_state_{one}" for one in ("queued", "running", "done", "failed", "cancelled", "paused")),
    *(f"train_method_{one}" for one in METHODS),
)
"""Words that the script says."""


class TrainingTab:
    """The tab's route, for one app."""

    def __init__(self, context: UiContext) -> None:
        self.context = context

    def add_to(self, app: FastAPI) -> None:
        """Hangs the route into `app`."""
        app.add_api_route("/ui/train", self.show, methods=["GET"], include_in_schema=False)

    async def show(self, request: Request) -> Response:
        """The form, and the places for what the script fills in."""
        models = await asyncio.to_thread(self.context.library.checkpoints)
        return html(page([(one.model_name, one.name) for one in models], reader(request)))


def page(models: Iterable[tuple[str, str]], language: Language) -> str:
    """The tab. `models`: what people read, and the name, of each checkpoint."""
    words = json.dumps({key: say_raw(key, language) for key in SPOKEN}, ensure_ascii=False)
    t = _Words(language)
    return (
        f'<div class="dq-train" data-words="{escape(words)}"><p class="dq-note">{t("train_intro")}</p>'
        f'<div class="dq-train-desk"><form class="dq-train-form" novalidate>{_data(t)}{_what(t, models)}'
        '<p class="dq-train-need" role="status"></p>'
        f'<button type="submit" class="dq-button dq-strong">{t("train_start")}</button></form>'
        f'<section class="dq-train-mine"><h2>{t("train_mine")}</h2><div class="dq-train-jobs"></div></section></div></div>'
    )


def _data(t: _Words) -> str:
    return (
        f'<fieldset><legend>{t("train_data")}</legend><div class="dq-train-pick">'
        f"<label>{t('train_set')}<select data-set></select></label>"
        f'<label data-new hidden>{t("train_set_name")}<input type="text" data-set-name maxlength="60"></label>'
        f'<button type="button" class="dq-button" data-train-do="remove" hidden>{t("train_set_remove")}</button></div>'
        f'<label class="dq-train-drop" tabindex="0">{t("train_drop")}<input type="file" multiple hidden'
        ' accept="image/png,image/jpeg,image/webp,image/bmp,.txt,.caption,.zip"></label>'
        f'<p class="dq-train-report" role="status"></p><ul class="dq-train-issues"></ul>{_see(t)}'
        f'<p class="dq-train-unused dq-train-wrong" hidden>{t("train_captions_unused")}</p>'
        '<div class="dq-train-pictures"></div>'
        f'<p class="dq-train-hint">{t("train_set_hint")}</p></fieldset>'
    )


def _see(t: _Words) -> str:
    """Who writes captions for pictures that have none."""
    choices = t.options((row.name, TRAINING[f"train_see_{row.name}"]) for row in interrogators.ROWS)
    return (
        f'<div class="dq-train-see" hidden><select data-see aria-label="{t("train_see")}">{choices}</select>'
        f'<button type="button" class="dq-button" data-train-do="see">{t("train_see")}</button></div>'
    )


def _what(t: _Words, models: Iterable[tuple[str, str]]) -> str:
    methods = [(one, TRAINING[f"train_method_{one}"]) for one in ("lora", *(m for m in METHODS if m != "lora"))]
    machines = [(one, TRAINING[f"train_preset_{one}"]) for one in PRESETS]
    choices = "".join(f'<option value="{escape(name)}">{escape(shown)}</option>' for shown, name in models)
    return (
        f'<fieldset><legend>{t("train_what")}</legend><div class="dq-train-fields">'
        f'<label class="dq-train-field">{t("train_f_method")}<select data-field="method">{t.options(methods)}</select></label>'
        f'<label class="dq-train-field">{t("train_f_name")}<input type="text" data-field="name" maxlength="99" required></label>'
        f'<label class="dq-train-field">{t("train_f_model")}<select data-field="model">{choices}</select></label>'
        f'<label class="dq-train-field">{t("train_preset")}<select data-preset>{t.options(machines)}</select></label>'
        f"</div><div class='dq-train-fields'>{''.join(map(t.field, FIRST))}</div>"
        f"<details class='dq-train-more'><summary>{t('train_more')}</summary>"
        f"<div class='dq-train-fields'>{''.join(map(t.field, MORE))}</div></details></fieldset>"
    )


def say_raw(key: str, language: Language) -> str:
    """A sentence with its fields still in it, for the script to fill."""
    return TRAINING[key][language == "zh"]


class _Words:
    """Escaped words in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str) -> str:
        return escape(say(key, self.language))

    def options(self, rows: Iterable[tuple[str, tuple[str, str]]]) -> str:
        chinese = self.language == "zh"
        return "".join(f'<option value="{escape(one)}">{escape(pair[chinese])}</option>' for one, pair in rows)

    def field(self, field: Field) -> str:
        """A labelled input."""
        wide = " dq-train-wide" if field.kind == "lines" else ""
        check = " dq-train-check" if field.kind == "check" else ""
        attributes = f' data-for="{field.methods}"' if field.methods else ""
        return (
            f'<label class="dq-train-field{wide}{check}"{attributes}><span>{self(f"train_f_{field.name}")}</span>'
            f"{self._input(field)}</label>"
        )

    def _input(self, field: Field) -> str:
        name = f'data-field="{field.name}" data-kind="{field.kind}"'
        if field.kind == "check":
            return f'<input type="checkbox" {name}>'
        if field.kind == "lines":
            return f'<textarea rows="2" {name}></textarea>'
        if field.kind == "choice":
            rows = [(one, TRAINING.get(f"train_c_{one}", (one, one))) for one in field.choices]
            return f"<select {name}>{self.options(rows)}</select>"
        if field.kind in ("text", "numbers"):
            return f'<input type="text" {name}>'
        step = "1" if field.kind == "whole" else "any"
        return f'<input type="number" step="{step}" min="0" {name}>'


def known_fields() -> set[str]:
    """Names of the recipe's fields that the form has."""
    return {field.name for field in (*FIRST, *MORE)} | {"method", "name", "model"}
