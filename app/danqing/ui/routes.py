"""Routes of the page's own parts: input pictures, tokens, terms, translation; gallery, models and settings as HTML."""

from __future__ import annotations

import asyncio
from math import inf, isnan
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.gallery.export import packed
from danqing.gallery.reading import read_image
from danqing.gallery.shares import Shares
from danqing.gallery.shelf import Shelf
from danqing.gallery.store import check_room
from danqing.prompt.chunks import token_count
from danqing.prompt.terms import has_chinese, matching
from danqing.prompt.tokenizer import default_tokenizer
from danqing.request import input_path
from danqing.ui import browser, pages, service_settings, uploads
from danqing.ui.answers import body_of, html, reader, require_admin, texts_of
from danqing.ui.wording import translates

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.ui.context import UiContext

PAGE = 60
"""Pictures that the gallery shows at once."""

MOST = 10_000
"""Pictures that one request names."""


class Routes:
    """What the page's scripts ask for, for one app."""

    def __init__(self, context: UiContext) -> None:
        self.context = context

    def add_to(self, app: FastAPI) -> None:
        """Hangs the routes into `app`."""
        for path, method, handler in (
            ("/ui/inputs", "POST", self.keep),
            ("/ui/inputs/{name}", "GET", self.show),
            ("/ui/send", "POST", self.send),
            ("/ui/words", "POST", self.words),
            ("/ui/terms", "GET", self.terms),
            ("/ui/networks", "GET", self.networks),
            ("/ui/gallery", "GET", self.gallery),
            ("/ui/pictures", "POST", self.pictures),
            ("/ui/like", "POST", self.like),
            ("/ui/uploads/{kind}", "POST", self.upload),
            ("/ui/zip", "GET", self.archive),
            ("/ui/zip", "POST", self.archive),
            ("/ui/models", "GET", self.models),
            ("/ui/settings", "GET", self.settings),
            ("/ui/settings", "POST", self.set_options),
        ):
            app.add_api_route(path, handler, methods=[method], include_in_schema=False)

    def _shelf(self) -> Shelf:
        gallery = self.context.service.gallery
        return Shelf(gallery, gallery.database)

    def _shares(self) -> Shares:
        gallery = self.context.service.gallery
        return Shares(gallery, gallery.database)

    async def keep(self, request: Request) -> Response:
        """Stores the picture in the body; its name, size and infotext."""
        body = await request.body()
        return JSONResponse(await asyncio.to_thread(self._kept, body, self.context.owner_of(request)))

    def _kept(self, body: bytes, owner: str) -> dict[str, Any]:
        limit = self.context.settings.get_int("limit_upload_pixels")
        check_room(self.context.data, self.context.settings.get_int("disk_reserve_mb"))
        name, (width, height) = inputs.keep_whole(self.context.data, body, limit)
        inputs.own(self.context.service.gallery.database, owner, name)
        try:
            text, _ = read_image(body, limit)
        except DanqingError:
            text = ""
        return {"name": name, "width": width, "height": height, "infotext": text}

    async def show(self, request: Request) -> Response:
        """An input picture by its name, to those who handed it in."""
        name, database = request.path_params["name"], self.context.service.gallery.database
        await asyncio.to_thread(inputs.check_own, database, self.context.owner_of(request), [name])
        path = input_path(self.context.data, name)
        if not await asyncio.to_thread(path.is_file):
            raise DanqingError("unknown_picture", picture=name[:64])
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})

    async def send(self, request: Request) -> Response:
        """A finished picture of this owner as an input picture."""
        wanted = await body_of(request)
        picture = await asyncio.to_thread(self.context.service.gallery.get, str(wanted.get("picture", "")))
        owner = self.context.owner_of(request)
        if picture.owner != owner:
            raise DanqingError("unknown_picture", picture=picture.id[:64])
        return JSONResponse(await asyncio.to_thread(lambda: self._kept(picture.path.read_bytes(), owner)))

    async def words(self, request: Request) -> Response:
        """How long both prompts are in tokens, and their translations where the model needs one."""
        wanted = await body_of(request)
        if await asyncio.to_thread(self._reads_english, wanted):
            await self.context.translations.learn(self.context, self._prompts(wanted))
        return JSONResponse(await asyncio.to_thread(self._words, wanted))

    def _prompts(self, wanted: dict[str, Any]) -> list[str]:
        limit = self.context.settings.get_int("limit_prompt")
        return [str(wanted.get(name) or "")[:limit] for name in ("prompt", "negative")]

    def _reads_english(self, wanted: dict[str, Any]) -> bool:
        """Whether the prompts have Chinese in them that the model would not understand."""
        if not any(map(has_chinese, self._prompts(wanted))):
            return False
        try:
            return translates(self.context, str(wanted.get("model") or ""), str(wanted.get("translate") or "auto"))
        except DanqingError:
            return False

    def _words(self, wanted: dict[str, Any]) -> dict[str, Any]:
        prompts, english = self._prompts(wanted), list[str]()
        if self._reads_english(wanted):
            known = self.context.translations
            english = [known.english(one) if has_chinese(one) else "" for one in prompts]
        tokenizer = default_tokenizer()
        counted = [english[n] if english and english[n] else one for n, one in enumerate(prompts)]
        return {"tokens": [list(token_count(one, tokenizer)) for one in counted], "english": english}

    async def terms(self, request: Request) -> Response:
        """Terms, LoRAs and embeddings that complete what is being written."""
        wanted = request.query_params.get("q", "")[:60]
        return JSONResponse(await asyncio.to_thread(self._terms, wanted))

    def _terms(self, wanted: str) -> list[dict[str, str]]:
        rows = [{"text": row.en, "note": row.zh} for row in matching(wanted)]
        lower = wanted.lower()
        known = [card for card in browser.cards(self.context) if lower and lower in card.name.lower()]
        return [*({"text": card.tag, "note": card.kind} for card in known[:6]), *rows]

    async def networks(self, request: Request) -> Response:
        """The browser of LoRAs, embeddings and hypernetworks."""
        return html(await asyncio.to_thread(browser.html, self.context, reader(request)))

    async def gallery(self, request: Request) -> Response:
        """A page of this owner's pictures."""
        query, owner = request.query_params, self.context.owner_of(request)
        found = await asyncio.to_thread(
            self._shelf().search,
            owner,
            query.get("q", "")[:500],
            before=min(_moment(query.get("before"), inf), _moment(query.get("until"), inf)),
            since=_moment(query.get("since"), 0.0),
            model=query.get("model", "")[:200],
            limit=PAGE,
            favourites=query.get("liked") == "1",
        )
        liked = await asyncio.to_thread(self._shares().favourites, owner)
        return html(pages.gallery(found, liked, reader(request), more=len(found) == PAGE))

    async def like(self, request: Request) -> Response:
        """Makes a picture a favourite of its owner, or no longer one."""
        wanted = await body_of(request)
        owner, picture = self.context.owner_of(request), str(wanted.get("picture", ""))
        await asyncio.to_thread(self._shares().like, owner, picture, wanted.get("liked") is True)
        return JSONResponse({})

    async def pictures(self, request: Request) -> Response:
        """Deletes pictures or brings them back."""
        wanted = await body_of(request)
        ids = _few(texts_of(wanted, "ids"))
        act = self._shelf().restore if wanted.get("restore") else self._shelf().discard
        count = await asyncio.to_thread(act, self.context.owner_of(request), ids)
        return JSONResponse({"count": count})

    async def archive(self, request: Request) -> Response:
        """Pictures of this owner in a zip: few by their address, any number by a form."""
        sent = await request.form() if request.method == "POST" else request.query_params
        ids = [one for one in str(sent.get("ids", "")).split(",") if one]
        pieces = packed(self.context.service.gallery, self.context.owner_of(request), _few(ids))
        headers = {"Content-Disposition": 'attachment; filename="danqing.zip"'}
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    async def models(self, request: Request) -> Response:
        """What is on disk."""
        may = self.context.steers(request)
        return html(await asyncio.to_thread(pages.models, self.context, reader(request), uploads=may))

    async def upload(self, request: Request) -> Response:
        """A piece of a model's file; the last one has it checked and put into its folder."""
        query, kind = request.query_params, request.path_params["kind"]
        piece = uploads.Piece(
            self.context.steers(request),
            self.context.owner_of(request),
            kind,
            query.get("name", ""),
            query.get("offset", ""),
            query.get("last") == "1",
        )
        body = await request.body()
        return JSONResponse({"bytes": await asyncio.to_thread(uploads.take, self.context.data, piece, body)})

    async def settings(self, request: Request) -> Response:
        """This reader's options as a form; for `box=1` those of everybody who has set nothing else, for `box=2` the service's."""
        options, table = self.context.options, self.context.option_table()
        usual = {key: row.default for key, row in table.items()}
        if _asked_box(request) == "2":
            require_admin(self.context, request)
            return html(await service_settings.form(self.context, reader(request)))
        if options is None:
            return html(pages.settings(usual, usual, table, reader(request)))
        if _asked_box(request) == "1":
            require_admin(self.context, request)
            return html(pages.settings(options.defaults(), usual, table, reader(request), box=True))
        values = await asyncio.to_thread(options.of, self.context.client_of(request))
        return html(pages.settings(values, options.defaults(), table, reader(request)))

    async def set_options(self, request: Request) -> Response:
        """Keeps options for this reader, for `box=1` as everybody's defaults, or for `box=2` settings of the service."""
        wanted, options = await body_of(request), self.context.options
        if _asked_box(request) == "2":
            require_admin(self.context, request)
            await service_settings.keep(self.context, wanted)
            return JSONResponse({})
        if options is not None:
            allowed = {key: value for key, value in wanted.items() if key in pages.SHOWN}
            if _asked_box(request) == "1":
                require_admin(self.context, request)
                await asyncio.to_thread(options.set_box, options.checked(allowed))
            else:
                await asyncio.to_thread(options.set, self.context.client_of(request), options.checked(allowed))
        return JSONResponse({})


def _asked_box(request: Request) -> str:
    return request.query_params.get("box", "")


def _moment(text: str | None, otherwise: float) -> float:
    """Seconds since 1970 that a page names; `otherwise` where it names none."""
    try:
        found = float(text or "")
    except ValueError:
        return otherwise
    return otherwise if isnan(found) else found


def _few(ids: list[str]) -> list[str]:
    """
    Raises:
        DanqingError: `invalid_field`, for more pictures than one request may name: a part of them would look like all.
    """
    if len(ids) > MOST:
        reason = f"List should have at most {MOST} items after validation, not {len(ids)}"
        raise DanqingError("invalid_field", field="ids", reason=reason)
    return ids
