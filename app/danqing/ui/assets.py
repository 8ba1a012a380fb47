"""Scripts and styles of Gradio's page, served from memory: the first visit asks for seventy of them.

Their names carry a hash of their content, so a browser may keep them for ever; Gradio's own route says nothing of that, and reads
and compresses each file anew for each visitor.
"""

from __future__ import annotations

import asyncio
import gzip
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

import gradio
from starlette.responses import Response

from danqing.ui.shell import App, Receive, Scope, Send

FOLDER = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
HASHED = re.compile(r"[\w.-]+-[\w-]{8,10}\.(?:js|css)")
PREFIX = "/assets/"
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file and its gzip form."""

    plain: bytes
    packed: bytes
    kind: str

    @classmethod
    def of(cls, path: Path) -> Asset:
        plain = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(plain, gzip.compress(plain, 6, mtime=0), kind)


class Assets:
    """Wraps the mounted page. Files are read when they are first asked for; what is not in `folder` is left to the page."""

    def __init__(self, app: App, folder: Path = FOLDER) -> None:
        self.app = app
        self._files = {path.name: path for path in folder.glob("*") if HASHED.fullmatch(path.name)}
        self._kept: dict[str, Asset] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "GET" else ""
        name = path.removeprefix(PREFIX)
        if not path.startswith(PREFIX) or name not in self._files:
            await self.app(scope, receive, send)
            return
        asset = self._kept.get(name)
        if asset is None:
            asset = self._kept[name] = await asyncio.to_thread(Asset.of, self._files[name])
        packed = any(key == b"accept-encoding" and b"gzip" in value for key, value in scope["headers"])
        body = asset.packed if packed else asset.plain
        headers = FOREVER | ({"Content-Encoding": "gzip"} if packed else {})
        await Response(body, headers=headers, media_type=asset.kind)(scope, receive, send)
