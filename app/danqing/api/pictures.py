"""Pictures by their ids: no file name of a client ever reaches a path."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from danqing.api.context import Context
from danqing.errors import DanqingError

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class Pictures:
    """GET /pictures/{picture_id}."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request) -> Response:
        """The file, to its owner only; `?download=1` offers it for saving."""
        picture_id = request.path_params["picture_id"]
        picture = await asyncio.to_thread(self._context.service.gallery.get, picture_id)
        if picture.owner != self._context.owner(request):
            raise DanqingError("unknown_picture", picture=picture_id[:64])
        # A name that we made, and one of few kinds: what the file says of itself counts for nothing.
        saving = "attachment" if request.query_params.get("download") == "1" else "inline"
        return FileResponse(
            picture.path,
            media_type=KINDS.get(picture.path.suffix.lower(), "application/octet-stream"),
            filename=picture.path.name,
            content_disposition_type=saving,
            headers={
                "Cache-Control": "private, max-age=31536000, immutable",
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
        )
