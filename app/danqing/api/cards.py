"""/sd_extra_networks: pictures and metadata of the models on disk, as the WebUI's own cards ask for them (spec 4)."""

from __future__ import annotations

import asyncio
import html
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from PIL import Image
from starlette.responses import FileResponse, Response

from danqing.api import no_route
from danqing.api.body import StrictRoute
from danqing.api.context import Context
from danqing.api.errors import RESPONSES, SafeJson
from danqing.errors import DanqingError
from danqing.gallery.reading import decoded
from danqing.library.embeddings import Embeddings
from danqing.library.index import Checkpoint
from danqing.library.networks import Network, Networks
from danqing.library.previews import COVERS, THUMBNAIL, Previews, covers, preview_of
from danqing.library.weights import open_file_header

PREFIX = "/sd_extra_networks"
HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox"}
"""A file that somebody put beside a model is a picture to a browser, whatever is in it."""


@dataclass(frozen=True, slots=True)
class Card:
    """A model as a card shows it. `prompt`: what a click on it writes."""

    name: str
    path: Path
    prompt: str
    metadata: Callable[[], Mapping[str, Any]]


class Cards:
    """The routes. A page is "checkpoints", "lora", "textual inversion" or "hypernetworks"."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._networks = Networks(context.logins.data)
        self._embeddings = Embeddings(context.logins.data)
        self._previews = Previews(
            self._roots, lambda: (card.path for page in self._pages() for card in self._cards(page))
        )

    async def thumb(self, filename: str = "") -> Response:
        """The picture beside a model, by its path on the box; no other file is ever answered."""
        found = await asyncio.to_thread(self._preview, filename)
        if found is None:
            return _missing()
        return FileResponse(found, headers={"Accept-Ranges": "bytes", **HEADERS})

    def _preview(self, filename: str) -> Path | None:
        return self._previews.find(filename)

    def _roots(self) -> Iterable[Path]:
        """The folders of every kind of model that has cards."""
        return (*self._context.library.folders, *self._networks.folders(), self._embeddings.folder)

    async def cover_images(self, page: str = "", item: str = "", index: int = 0) -> Response:
        """A picture from inside a model's file, counted from 0."""
        card = await asyncio.to_thread(self._card, page, item)
        limit = self._context.settings.get_int("limit_upload_pixels")
        data = await asyncio.to_thread(_cover, card, index, limit) if card else None
        return _missing() if data is None else Response(data, media_type="image/png", headers=HEADERS)

    async def metadata(self, page: str = "", item: str = "") -> Response:
        """What a model's file says of itself, as a JSON text; {} where it says nothing."""
        card = await asyncio.to_thread(self._card, page, item)
        found = await asyncio.to_thread(_metadata, card) if card else {}
        return SafeJson({"metadata": json.dumps(found, indent=4, ensure_ascii=False)} if found else {})

    async def single_card(self, page: str = "", tabname: str = "", name: str = "") -> Response:
        """A card's HTML."""
        card = await asyncio.to_thread(self._card, page, name)
        return SafeJson({"html": await asyncio.to_thread(_html, card, page, tabname) if card else ""})

    def _pages(self) -> dict[str, Callable[[], Iterable[Card]]]:
        return {
            "checkpoints": lambda: map(_checkpoint, self._context.library.checkpoints()),
            "lora": lambda: map(_lora, self._networks.loras()),
            "hypernetworks": lambda: map(_hypernetwork, self._networks.hypernetworks()),
            "textual inversion": lambda: (
                Card(one.name, one.path, one.name, lambda: {}) for one in self._embeddings.all()
            ),
        }

    def _cards(self, page: str) -> Iterable[Card]:
        return self._pages().get(page.lower().replace("_", " "), tuple)()

    def _card(self, page: str, name: str) -> Card | None:
        return next((card for card in self._cards(page) if card.name == name), None)


def _checkpoint(one: Checkpoint) -> Card:
    return Card(one.model_name, one.filename, "", lambda: _header(one.filename))


def _lora(one: Network) -> Card:
    return Card(one.name, one.path, f"<lora:{one.name}:1>", lambda: one.metadata)


def _hypernetwork(one: Network) -> Card:
    return Card(one.name, one.path, f"<hypernet:{one.name}:1>", lambda: one.metadata)


def _header(path: Path) -> Mapping[str, Any]:
    """The free strings of a file; none of a folder, or of a file that cannot be read."""
    try:
        return {} if path.is_dir() else open_file_header(path).metadata
    except DanqingError:
        return {}


def _metadata(card: Card) -> Mapping[str, Any]:
    """Without the pictures: a card shows them as pictures."""
    return {key: value for key, value in card.metadata().items() if key not in (COVERS, THUMBNAIL)}


def _cover(card: Card, index: int, limit: int) -> bytes | None:
    found = covers(_header(card.path))
    try:
        return decoded(found[index], limit, _png) if 0 <= index < len(found) else None
    except DanqingError:
        return None


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _html(card: Card, page: str, tab: str) -> str:
    beside = preview_of(card.path)
    picture = ""
    if beside is not None:
        stamp = int(beside.stat().st_mtime)
        source = f".{PREFIX}/thumb?filename={quote(str(beside))}&amp;mtime={stamp}"
        picture = f'<img src="{source}" class="preview" loading="lazy" alt="">'
    name = html.escape(card.name)
    data = f'data-name="{name}" data-tab="{html.escape(tab)}" data-page="{html.escape(page)}"'
    prompt = html.escape(json.dumps(card.prompt))
    label = f'<div class="actions"><span class="name">{name}</span></div>'
    return f'<div class="card" {data} data-prompt="{prompt}">{picture}{label}</div>'


def _missing() -> Response:
    return SafeJson({"detail": "File not found"}, 404)


def cards(context: Context) -> APIRouter:
    """All routes below /sd_extra_networks."""
    router = APIRouter(prefix=PREFIX, route_class=StrictRoute, default_response_class=SafeJson, responses=RESPONSES)
    routes = Cards(context)
    reading: no_route.Handlers = {
        "/thumb": routes.thumb,
        "/cover-images": routes.cover_images,
        "/metadata": routes.metadata,
        "/get-single-card": routes.single_card,
    }
    no_route.fill(router, reading, {})
    return router
