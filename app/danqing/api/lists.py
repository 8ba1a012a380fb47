"""Routes that list what there is. What a later version will have is not listed before it works."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.engine import catalog
from danqing.library.index import Checkpoint
from danqing.prompt.styles import read_styles

Route = Callable[..., Awaitable[Response]]

FLAGS = Path(__file__).with_name("flags.json")

EMPTY: dict[str, Any] = {
    "/sd-vae": [],
    "/hypernetworks": [],
    "/loras": [],
    "/face-restorers": [],
    "/realesrgan-models": [],
    "/extensions": [],
    "/embeddings": {"loaded": {}, "skipped": {}},
    "/scripts": {"txt2img": [], "img2img": []},
    "/script-info": [],
}
"""Lists that have nothing yet."""

UPSCALERS = ("None", "Lanczos", "Nearest")

LATENT_MODES = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)


class Lists:
    """The GET routes that list, and the POST routes that make the WebUI look again."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> dict[str, Route]:
        """Handlers by path."""
        fixed = {
            **EMPTY,
            "/samplers": _samplers(),
            "/schedulers": _schedulers(),
            "/upscalers": [
                {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
                for name in UPSCALERS
            ],
            "/latent-upscale-modes": [{"name": name} for name in LATENT_MODES],
        }
        return {
            **{path: _constant(path, value) for path, value in fixed.items()},
            "/sd-models": self.sd_models,
            "/prompt-styles": self.prompt_styles,
            "/cmd-flags": self.cmd_flags,
            "/memory": self.memory,
        }

    def refreshers(self) -> dict[str, Route]:
        """Folders are read anew whenever they are asked for, so these have nothing to do."""
        return {
            f"/refresh-{kind}": _constant(f"refresh_{kind}", None)
            for kind in ("checkpoints", "vae", "loras", "embeddings")
        }

    async def sd_models(self) -> Response:
        """Checkpoints on disk."""
        found = await asyncio.to_thread(self._context.library.checkpoints)
        return SafeJson([_checkpoint(one) for one in found])

    async def prompt_styles(self) -> Response:
        """Styles of styles.csv."""
        styles = await asyncio.to_thread(read_styles, self._context.logins.data)
        return SafeJson(
            [{"name": one.name, "prompt": one.prompt, "negative_prompt": one.negative_prompt} for one in styles]
        )

    async def cmd_flags(self, request: Request) -> Response:
        """The WebUI's command line; what Danqing has no such switch for stands at its default."""
        flags = json.loads(FLAGS.read_text("utf-8"))
        server = request.scope.get("server") or ("", 0)
        flags |= {"port": server[1], "server_name": self._context.logins.host, "api": True}
        flags["data_dir"] = str(self._context.logins.data)
        return SafeJson(flags)

    async def memory(self) -> Response:
        """Bytes of RAM; the GPU belongs to the engine's process."""
        return SafeJson({"ram": await asyncio.to_thread(_ram), "cuda": {"error": "unavailable"}})


def _constant(path: str, value: Any) -> Route:
    async def show() -> Response:
        return SafeJson(value)

    show.__name__ = path.strip("/").replace("-", "_")
    return show


def _samplers() -> list[dict[str, Any]]:
    return [{"name": s.name, "aliases": list(s.aliases), "options": dict(s.options)} for s in catalog.SAMPLERS]


def _schedulers() -> list[dict[str, Any]]:
    return [
        {
            "name": row.name,
            "label": row.label,
            "aliases": list(row.aliases) or None,
            "default_rho": row.default_rho,
            "need_inner_model": row.need_inner_model,
        }
        for row in catalog.SCHEDULES
    ]


def _checkpoint(one: Checkpoint) -> dict[str, Any]:
    return {
        "title": one.title,
        "model_name": one.model_name,
        "hash": one.hash10,
        "sha256": one.sha256,
        "filename": str(one.filename),
        "config": str(one.config) if one.config else None,
    }


def _ram() -> dict[str, Any]:
    """As the kernel tells it: used is what this process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        total, free = (int(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError) as error:
        return {"error": str(error)}
    return {"free": free, "used": pages * os.sysconf("SC_PAGE_SIZE"), "total": total}
