"""Handlers of presets: all boxes kept under a name, filled in again, forgotten."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.gallery import presets
from danqing.ui import lists
from danqing.ui.boxes import NOT_KEPT, Boxes, Updates
from danqing.ui.fields import NAMES
from danqing.ui.speech import in_words, reader

if TYPE_CHECKING:
    from pathlib import Path

    from danqing.ui.board import Board

LEFT = NOT_KEPT | {"seed", "init", "inpaint_image", "extras_images", "styles"}
"""Boxes that a preset does not hold: pictures, and what makes one drawing that one."""


class PresetBoxes:
    """The handlers of one page's presets."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes
        self.board: Board = boxes.board

    @property
    def data(self) -> Path:
        """The data root; the page is built before the queue that knows it is started."""
        return self.boxes.context.data

    def _owner(self, request: gr.Request) -> str:
        return self.boxes.context.owner_of(request.request)

    async def first(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """The names that there are."""
        with in_words(request):
            names = await asyncio.to_thread(presets.names, self.data, self._owner(request))
            return self.board.updates(preset=gr.Dropdown(choices=names, value=None))

    async def save(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """All boxes under the name that was asked for; nothing where none was given."""
        with in_words(request):
            values = self.board.values(data)
            name = str(values["preset_name"] or "").strip()
            if not name:
                return self.board.updates(preset_name="")
            kept = {key: values[key] for key in (*NAMES, *self.board.plugged) if key not in LEFT and key in values}
            names = await asyncio.to_thread(presets.save, self.data, self._owner(request), name, kept)
            return self.board.updates(preset=gr.Dropdown(choices=names, value=name), preset_name="")

    async def delete(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Forgets the preset that is chosen."""
        with in_words(request):
            name = str(self.board.values(data)["preset"] or "")
            names = await asyncio.to_thread(presets.delete, self.data, self._owner(request), name)
            return self.board.updates(preset=gr.Dropdown(choices=names, value=None))

    async def load(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Fills the boxes; what is no longer there (an upscaler, a VAE) leaves its box as it is."""
        with in_words(request):
            values, context = self.board.values(data), self.boxes.context
            kept = await asyncio.to_thread(presets.load, self.data, self._owner(request), str(values["preset"] or ""))
            models = await asyncio.to_thread(context.library.checkpoints)
            menus = await asyncio.to_thread(lists.menus, context, models, reader(request), self._owner(request))
            draft = {key: value for key, value in self.boxes.plain(kept).items() if key not in LEFT}
            named = values["model"]
            model = next((one for one in models if named in one.ids()), context.library.default())
            sizes = self.boxes.sizes(model, draft.pop("width", None), draft.pop("height", None))
            return sizes | self.board.updates(**self.boxes.merged(menus, draft))
