"""Handlers that fill the boxes: models and sizes, seeds, examples, and the settings of an earlier picture."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.engine.catalog import schedule_labels
from danqing.errors import DanqingError
from danqing.gallery.infotext import parse, to_request_fields
from danqing.request import CHOICE_AUTOMATIC, GenerateRequest
from danqing.ui.examples import MINI_SIZE, examples_for
from danqing.ui.fields import NAMES, aspect_size
from danqing.ui.speech import in_words, reader
from danqing.ui.words import say

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.gallery.store import Picture
    from danqing.library.index import Checkpoint
    from danqing.ui.board import Board
    from danqing.ui.context import UiContext

Updates = dict[Any, Any]

DEFAULT = GenerateRequest()
MINI_CFG = 5.0

REACH = 4
"""The size sliders reach this many times the side that the model was trained on."""


class Boxes:
    """The handlers of one page's boxes."""

    def __init__(self, context: UiContext, board: Board) -> None:
        self.context = context
        self.board = board

    async def first_look(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Menus in the reader's language, the default model and its size, and what this browser drew last."""
        with in_words(request):
            language = reader(request)
            schedules = self.board.updates(scheduler=gr.Dropdown(choices=_schedules(language)))
            models = await asyncio.to_thread(self.context.library.checkpoints)
            if not models:
                return schedules
            draft = self._draft(self.board.values(data).get("draft"))
            model = next((m for m in models if draft.get("model") in m.ids()), models[0])
            sizes = self.sizes(model, draft.pop("width", None), draft.pop("height", None))
            draft = {"cfg_scale": _guidance(model), **draft, "model": _menu(models, model)}
            return schedules | sizes | self.board.updates(**draft)

    def _draft(self, kept: Any) -> dict[str, Any]:
        """What the browser kept of its last drawing; anything may stand there, so only plain values are taken."""
        if not isinstance(kept, dict):
            return {}
        return {name: kept[name] for name in NAMES if isinstance(kept.get(name), str | int | float)}

    async def _models(self) -> list[Checkpoint]:
        models = await asyncio.to_thread(self.context.library.checkpoints)
        if not models:
            self.context.library.default()
        return models

    def sizes(self, model: Checkpoint, width: Any = None, height: Any = None) -> Updates:
        """Both size sliders for this model; None is the side that it was trained on."""
        limit = self.context.settings.get_int("limit_side")
        sides = [side if isinstance(side, int | float) else model.native_size for side in (width, height)]
        top = min(limit, max(REACH * model.native_size, *sides))
        return self.board.updates(
            width=gr.Slider(maximum=top, value=sides[0]), height=gr.Slider(maximum=top, value=sides[1])
        )

    async def refresh(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Looks at the models folder again."""
        with in_words(request):
            models = await self._models()
            chosen = self.board.values(data)["model"]
            return self.board.updates(model=_menu(models, next((m for m in models if chosen in m.ids()), models[0])))

    async def model_chosen(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Another model: its own size and guidance."""
        with in_words(request):
            model = await self._model(self.board.values(data)["model"])
            return self.sizes(model) | self.board.updates(cfg_scale=_guidance(model))

    def aspect(self, aspect: str) -> Callable[[dict[Any, Any], gr.Request], Awaitable[Updates]]:
        """The handler of a button for this shape: a size with the area that the model knows best."""

        async def handler(data: dict[Any, Any], request: gr.Request) -> Updates:
            with in_words(request):
                model = await self._model(self.board.values(data)["model"])
                return self.sizes(model, *aspect_size(aspect, model.native_size))

        return handler

    async def _model(self, name: Any) -> Checkpoint:
        return await asyncio.to_thread(self.context.library.resolve, name if isinstance(name, str) else "")

    async def example(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """The prompt of an example."""
        with in_words(request):
            model = await self._model(self.board.values(data)["model"])
            examples = examples_for(model.native_size)
            index = event._data.get("index") if isinstance(event._data, dict) else None
            chosen = examples[index % len(examples)] if isinstance(index, int) else examples[0]
            return self.board.updates(prompt=chosen.prompt(reader(request)))

    async def use(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """The settings of a picture into the boxes."""
        with in_words(request):
            wanted = event._data.get("picture") if isinstance(event._data, dict) else None
            picture = await self._picture(wanted, request)
            fields = to_request_fields(parse(picture.infotext))
            name = fields.pop("model", None) or self.board.values(data)["model"]
            try:
                model = await self._model(name)
            except DanqingError:
                model = await self._model(self.board.values(data)["model"])
            updates = self.sizes(model, fields.pop("width", None), fields.pop("height", None))
            updates |= self.board.updates(model=model.title, seed=str(picture.seed))
            fields.pop("seed", None)
            return updates | self.board.updates(**{key: fields[key] for key in NAMES if key in fields})

    async def reuse_seed(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """The seed of the picture on the stage."""
        with in_words(request):
            return self.board.updates(seed=str((await self._picture(self.board.values(data)["picked"], request)).seed))

    async def _picture(self, picture_id: Any, request: gr.Request) -> Picture:
        """A picture of this owner; somebody else's is as unknown as one that never was.

        Raises:
            DanqingError: `unknown_picture`; `nothing_to_reuse` when none was named.
        """
        if not isinstance(picture_id, str) or not picture_id:
            raise gr.Error(say("nothing_to_reuse", reader(request)), title=say("error_title", reader(request)))
        picture = await asyncio.to_thread(self.context.service.gallery.get, picture_id)
        if picture.owner != self.context.owner_of(request.request):
            raise DanqingError("unknown_picture", picture=picture_id[:64])
        return picture


def _menu(models: list[Checkpoint], chosen: Checkpoint) -> Any:
    return gr.Dropdown(choices=[(m.model_name, m.title) for m in models], value=chosen.title)


def _guidance(model: Checkpoint) -> float:
    """The CFG scale to begin with: the miniature model was measured at 5, where its colours do not burn out."""
    return MINI_CFG if model.native_size < MINI_SIZE else DEFAULT.cfg_scale


def _schedules(language: Language) -> list[tuple[str, str]]:
    return [(say("automatic", language) if x == CHOICE_AUTOMATIC else x, x) for x in schedule_labels()]
