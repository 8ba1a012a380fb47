"""Favourites, links to one picture for people without a login, and everything that somebody has in one file."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.api.fields import example
from danqing.api.guard import SHARED
from danqing.api.pictures import PictureId, answered
from danqing.errors import DanqingError
from danqing.gallery.export import exported
from danqing.gallery.shares import Shares

DAY = 86400.0


class ShareWish(BaseModel):
    """Body of POST /v1/images/{picture_id}/share."""

    model_config = example({"hours": 24})

    hours: Annotated[float, Field(gt=0, le=24 * 3650, description="How long the link holds.")] = 24.0


class Sharing:
    """Each of the caller's own pictures; the link itself is everybody's who has it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def _shares(self) -> Shares:
        gallery = self._context.service.gallery
        return Shares(gallery, gallery.database)

    async def share(self, request: Request, picture_id: PictureId, wish: ShareWish) -> Response:
        """A link by which anybody sees this picture until it expires. The secret in it is kept as a hash only."""
        most = self._context.settings.get_float("share_days_most") * DAY
        seconds = wish.hours * 3600
        if seconds > most:
            raise DanqingError("out_of_range", field="hours", value=wish.hours, minimum=0, maximum=most / 3600)
        owner = self._context.owner(request)
        token = await asyncio.to_thread(self._shares().share, owner, picture_id, seconds)
        return SafeJson({"path": f"{SHARED}{token}", "seconds": seconds}, 201)

    async def take_back(self, request: Request, picture_id: PictureId) -> Response:
        """End every link to this picture."""
        await asyncio.to_thread(self._shares().take_back, self._context.owner(request), picture_id)
        return SafeJson({})

    async def shared(
        self, secret: Annotated[str, Path(description="The secret of a link.")], download: str = ""
    ) -> Response:
        """The picture of a link, to anybody; `?download=1` offers it for saving."""
        picture = await asyncio.to_thread(self._shares().shared, secret)
        response = answered(picture, download == "1")
        # The link may be taken back: nobody on the way keeps the picture.
        response.headers["Cache-Control"] = "private, no-store"
        response.headers["X-Robots-Tag"] = "noindex"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def like(self, request: Request, picture_id: PictureId) -> Response:
        """Make the picture a favourite: retention keeps it."""
        await asyncio.to_thread(self._shares().like, self._context.owner(request), picture_id)
        return SafeJson({})

    async def unlike(self, request: Request, picture_id: PictureId) -> Response:
        """No favourite any more."""
        await asyncio.to_thread(self._shares().like, self._context.owner(request), picture_id, False)
        return SafeJson({})

    async def favourites(self, request: Request) -> Response:
        """Ids of the caller's favourites."""
        found = await asyncio.to_thread(self._shares().favourites, self._context.owner(request))
        return SafeJson({"images": sorted(found)})

    async def export(self, request: Request) -> Response:
        """Every saved picture of the caller's and their infotexts, as one zip file."""
        pieces = exported(self._context.service.gallery, self._context.owner(request))
        headers = {"Content-Disposition": 'attachment; filename="danqing-export.zip"', "Cache-Control": "no-store"}
        return StreamingResponse(iterate_in_threadpool(pieces), media_type="application/zip", headers=headers)


def add_routes(router: APIRouter, context: Context) -> None:
    """The routes below /v1; `shared` hangs in the app."""
    sharing = Sharing(context)
    router.add_api_route("/images/{picture_id}/share", sharing.share, methods=["POST"], status_code=201)
    router.add_api_route("/images/{picture_id}/share", sharing.take_back, methods=["DELETE"])
    router.add_api_route("/images/{picture_id}/favourite", sharing.like, methods=["PUT"])
    router.add_api_route("/images/{picture_id}/favourite", sharing.unlike, methods=["DELETE"])
    router.add_api_route("/favourites", sharing.favourites, methods=["GET"])
    router.add_api_route("/export", sharing.export, methods=["GET"])
