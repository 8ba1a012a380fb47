"""Handlers that fill the boxes: models and sizes, seeds, styles, examples, and the settings of an earlier picture."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.api.pasted import with_local_names
from danqing.engine.interrogators import Manner
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.gallery.infotext import parse
from danqing.library.networks import Networks
from danqing.prompt.styles import Style, own_file, read_file, save_styles, styled, styles_of
from danqing.request import GenerateRequest
from danqing.ui import lists
from danqing.ui.examples import MINI_SIZE, examples_for
from danqing.ui.fields import NAMES, aspect_size
from danqing.ui.pasting import boxes_of, styles_found
from danqing.ui.speech import in_words, reader
from danqing.ui.units import box
from danqing.ui.words import say

if TYPE_CHECKING:
    from danqing.gallery.store import Picture
    from danqing.library.index import Checkpoint
    from danqing.ui.board import Board
    from danqing.ui.context import UiContext

Updates = dict[Any, Any]

DEFAULT = GenerateRequest()
MINI_CFG = 5.0

REACH = 4
"""The size sliders reach this many times the side that the model was trained on."""

MADE = {"pose": "OpenPose", "sketch": "Scribble"}
"""How a map was made on the page -> its control type."""

NOT_KEPT = {"first_pass", "init_sketch", "inpaint_mask", "english", "english_negative", "model", "tab"}
"""Boxes that a browser does not bring back: what was painted lives as long as its page."""


class Boxes:
    """The handlers of one page's boxes."""

    def __init__(self, context: UiContext, board: Board) -> None:
        self.context = context
        self.board = board

    def _owner(self, request: gr.Request) -> str:
        return self.context.owner_of(request.request)

    async def first_look(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Menus in the reader's language, the default model and its size, and what this browser drew last."""
        with in_words(request):
            models = await asyncio.to_thread(self.context.library.checkpoints)
            menus = await asyncio.to_thread(lists.menus, self.context, models, reader(request), self._owner(request))
            if not models:
                return self.board.updates(**menus)
            kept = self.board.values(data).get("draft")
            draft = self.plain(kept)
            named = kept.get("model") if isinstance(kept, dict) else None
            model = next((m for m in models if named in m.ids()), models[0])
            sizes = self.sizes(model, draft.pop("width", None), draft.pop("height", None))
            draft = {"cfg_scale": _guidance(model), **draft, "model": _menu(models, model)}
            return sizes | self.board.updates(**self.merged(menus, draft))

    def merged(self, menus: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        """Menus with their new choices and, where there is one, a value that is among them."""
        merged = dict(menus)
        for name, value in values.items():
            menu = menus.get(name)
            if menu is None:
                merged[name] = value
            elif name == "styles" or any(value == choice for _, choice in menu.choices):
                merged[name] = gr.Dropdown(choices=menu.choices, value=value)
        return merged

    def plain(self, kept: Any) -> dict[str, Any]:
        """What the browser kept of its last drawing; anything may stand there, so only plain values are taken."""
        if not isinstance(kept, dict):
            return {}
        names = [name for name in (*NAMES, *self.board.plugged) if name in kept and name not in NOT_KEPT]
        return {name: kept[name] for name in names if _plain(kept[name])}

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
        """Looks at the folders again."""
        with in_words(request):
            models = await self._models()
            menus = await asyncio.to_thread(lists.menus, self.context, models, reader(request), self._owner(request))
            chosen = self.board.values(data)["model"]
            model = next((m for m in models if chosen in m.ids()), models[0])
            return self.board.updates(**menus, model=_menu(models, model))

    async def model_chosen(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Another model: its own size and guidance."""
        with in_words(request):
            model = await self._model(self.board.values(data)["model"])
            return self.sizes(model) | self.board.updates(cfg_scale=_guidance(model))

    async def model_named(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """A model chosen elsewhere on the page."""
        with in_words(request):
            models = await self._models()
            model = await self._model(_told(event, "title"))
            return self.sizes(model) | self.board.updates(cfg_scale=_guidance(model), model=_menu(models, model))

    async def vae_named(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """A VAE chosen elsewhere on the page."""
        with in_words(request):
            models = await self._models()
            menus = await asyncio.to_thread(lists.menus, self.context, models, reader(request), self._owner(request))
            return self.board.updates(vae=self.merged({"vae": menus["vae"]}, {"vae": _told(event, "name")})["vae"])

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
            index = _told(event, "index")
            chosen = examples[index % len(examples)] if isinstance(index, int) else examples[0]
            return self.board.updates(prompt=chosen.prompt(reader(request)))

    async def use(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """The settings of a picture into the boxes."""
        with in_words(request):
            picture = await self._picture(_told(event, "picture"), request)
            boxes = await self._pasted(picture.infotext, self.board.values(data)["model"], request)
            return boxes | self.board.updates(seed=str(picture.seed))

    async def paste(self, data: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Updates:
        """The settings of a text, "" for those of this owner's newest picture, into the boxes."""
        with in_words(request):
            text = _told(event, "text")
            if not isinstance(text, str) or not text.strip():
                text = await asyncio.to_thread(self._newest, self.context.owner_of(request.request))
            if not text:
                raise gr.Error(say("nothing_to_reuse", reader(request)), title=say("error_title", reader(request)))
            return await self._pasted(text, self.board.values(data)["model"], request)

    def _newest(self, owner: str) -> str:
        found = self.context.service.gallery.pictures(owner, limit=1)
        return found[0].infotext if found else ""

    async def _pasted(self, text: str, chosen: Any, request: gr.Request) -> Updates:
        """Boxes for an infotext; the model it names where that is here, else the one chosen."""
        pairs = await asyncio.to_thread(with_local_names, parse(text), Networks(self.context.data))
        boxes = boxes_of(pairs, self.context.option_table())
        known = await asyncio.to_thread(styles_of, self.context.data, self._owner(request))
        boxes |= styles_found(boxes, known, str(self.context.option(request.request, "infotext_styles")))
        try:
            model = await self._model(pairs.get("Model hash") or pairs.get("Model") or chosen)
        except DanqingError:
            model = await self._model(chosen)
        return self.sizes(model, boxes.pop("width", None), boxes.pop("height", None)) | self.board.updates(
            **{key: value for key, value in boxes.items() if key in NAMES}, model=model.title
        )

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

    async def style_apply(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """The chosen styles become part of the prompts."""
        with in_words(request):
            values = self.board.values(data)
            limit = self.context.settings.get_int("limit_prompt")
            known = await asyncio.to_thread(styles_of, self.context.data, self._owner(request))
            names = [name for name in values["styles"] or [] if isinstance(name, str)]
            prompts = (str(values["prompt"] or ""), str(values["negative_prompt"] or ""))
            prompt, negative = styled(*prompts, names, known, limit)
            return self.board.updates(prompt=prompt, negative_prompt=negative, styles=[])

    async def style_save(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Both prompts under the name that was asked for."""
        values = self.board.values(data)
        style = Style(
            str(values["style_name"] or "").strip()[:200], values["prompt"] or "", values["negative_prompt"] or ""
        )
        return await self._change_styles(request, {style.name: style} if style.name else {}, set())

    async def style_delete(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """The chosen styles are forgotten (the file before stays beside it as `.bak`)."""
        gone = {name for name in self.board.values(data)["styles"] or [] if isinstance(name, str)}
        return await self._change_styles(request, {}, gone)

    async def _change_styles(self, request: gr.Request, new: dict[str, Style], gone: set[str]) -> Updates:
        data, owner = self.context.data, self._owner(request)
        # What the house has is not one reader's to forget, but for who looks after it.
        files = {own_file(data, owner), *([data / "styles.csv"] if self.context.steers(request.request) else [])}

        def work() -> list[str]:
            for file in files:
                known = {one.name: one for one in read_file(file)}
                more = new if file == own_file(data, owner) else {}
                kept = [one for name, one in (known | more).items() if name not in gone]
                if more or gone & set(known):
                    save_styles(file, kept)
            return [one.name for one in styles_of(data, owner)]

        with in_words(request):
            names = await asyncio.to_thread(work)
            return self.board.updates(styles=gr.Dropdown(choices=names, value=list(new)), style_name="")

    def control_type(self, number: int) -> Callable[..., Awaitable[Updates]]:
        """Another control type: a unit's menus offer what belongs to it, its usual preprocessor and model chosen."""

        async def handler(data: dict[Any, Any], request: gr.Request) -> Updates:
            with in_words(request):
                given = self.board.values(data)
                found = await asyncio.to_thread(
                    lists.control_menus, self.context, given[box(number, "type")], given["model"], reader(request)
                )
                return self.board.updates(**{box(number, part): menu for part, menu in found.items()})

        return handler

    def control_made(self, number: int) -> Callable[..., Awaitable[Updates]]:
        """A map was drawn or made on the page: the unit takes it as it is, and is switched on."""

        async def handler(data: dict[Any, Any], request: gr.Request) -> Updates:
            with in_words(request):
                given = self.board.values(data)
                kind = MADE.get(str(given[box(number, "made")]).partition(" ")[0], "")
                updates = {box(number, "module"): "none", box(number, "on"): True}
                if kind and given[box(number, "model")] in (None, "None"):
                    found = await asyncio.to_thread(
                        lists.control_menus, self.context, kind, given["model"], reader(request)
                    )
                    module = gr.Dropdown(choices=found["module"].choices, value="none")
                    updates |= {box(number, "type"): kind, box(number, "model"): found["model"]}
                    updates[box(number, "module")] = module
                return self.board.updates(**updates)

        return handler

    def interrogate(self, name: str) -> Callable[[dict[Any, Any], gr.Request], Awaitable[Updates]]:
        """The handler that writes what an interrogator sees in the tab's picture into the prompt."""

        async def handler(data: dict[Any, Any], request: gr.Request) -> Updates:
            with in_words(request):
                values, context = self.board.values(data), self.context
                box = "inpaint_image" if values["tab"] == "inpaint" else "init"
                pictures = str(values[box] or "").split()
                if not pictures:
                    raise DanqingError("missing_picture", field=box)
                database = context.service.gallery.database
                await asyncio.to_thread(inputs.check_own, database, self._owner(request), pictures[:1])
                options = context.options.of(context.client_of(request.request)) if context.options else None
                manner = Manner() if options is None else Manner.of(options)
                return self.board.updates(prompt=await context.service.interrogate(pictures[0], name, manner))

        return handler

    def fill_axis(self, axis: str, kind: str) -> Callable[[dict[Any, Any], gr.Request], Awaitable[Updates]]:
        """The handler that writes all values of a plot's axis into the box `axis`; the box `kind` says which axis."""

        async def handler(data: dict[Any, Any], request: gr.Request) -> Updates:
            with in_words(request):
                label = str(self.board.values(data)[kind] or "")
                values = await asyncio.to_thread(lists.axis_values, self.context, label)
                line = io.StringIO()
                csv.writer(line, lineterminator="").writerow(values)
                return self.board.updates(**{axis: line.getvalue()})

        return handler


def _told(event: gr.EventData, name: str) -> Any:
    return event._data.get(name) if isinstance(event._data, dict) else None


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) < 100 and all(isinstance(one, str) for one in value)
    return isinstance(value, str | int | float)


def _menu(models: list[Checkpoint], chosen: Checkpoint) -> Any:
    return gr.Dropdown(choices=[(m.model_name, m.title) for m in models], value=chosen.title)


def _guidance(model: Checkpoint) -> float:
    """The CFG scale to begin with: the miniature model was measured at 5, where its colours do not burn out."""
    return MINI_CFG if model.native_size < MINI_SIZE else DEFAULT.cfg_scale
