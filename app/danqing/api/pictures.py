"""Pictures by their ids: no file name of a client ever reaches a path."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Path
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from danqing.api.context import Context
from danqing.errors import DanqingError
from danqing.gallery.store import Picture

PictureId = Annotated[str, Path(description="An id of GET /v1/jobs/{job_id} or of the page.")]

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class Pictures:
    """GET /pictures/{picture_id}."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request, picture_id: PictureId, download: str = "") -> Response:
        """The file, to its owner only; `?download=1` offers it for saving."""
        picture = await asyncio.to_thread(self._context.service.gallery.get, picture_id)
        if picture.owner != self._context.owner(request):
            raise DanqingError("unknown_picture", picture=picture_id[:64])
        return answered(picture, download == "1")


def answered(picture: Picture, save: bool) -> FileResponse:
    """The file of a picture as an answer; `save` offers it for saving.

    Raises:
        DanqingError: `unknown_picture`, where somebody took the file away by hand.
    """
    if not picture.path.is_file():
        raise DanqingError("unknown_picture", picture=picture.id)
    # A name that we made, and one of few kinds: what the file says of itself counts for nothing.
    return FileResponse(
        picture.path,
        media_type=KINDS.get(picture.path.suffix.lower(), "application/octet-stream"),
        filename=picture.path.name,
        content_disposition_type="attachment" if save else "inline",
        headers={
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )
