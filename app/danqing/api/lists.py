"""Routes that list what there is. What a later version will have is not listed before it works."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from danqing.api.context import Context
from danqing.api.errors import SafeJson
from danqing.engine import catalog
from danqing.engine.scripts.axes import labels
from danqing.engine.scripts.table import ScriptRow, always_on, selectable
from danqing.library.embeddings import Embeddings
from danqing.library.index import Checkpoint
from danqing.library.networks import Networks
from danqing.library.vaes import vae_files
from danqing.plugins.loading import Info, active
from danqing.prompt.styles import styles_of
from danqing.upscale import catalog as upscalers

Route = Callable[..., Awaitable[Response]]

TABS = ("txt2img", "img2img")
FLAGS = Path(__file__).with_name("flags.json")

FIXED: dict[str, Any] = {
    "/latent-upscale-modes": [{"name": name} for name in upscalers.LATENT_MODES],
    "/realesrgan-models": [
        {"name": name, "path": file, "scale": int(upscalers.scale_in(file))}
        for file, name in upscalers.KNOWN_FILES.items()
        if name.startswith("R-ESRGAN")
    ],
    "/face-restorers": [{"name": name, "cmd_dir": None} for name in ("CodeFormer", "GFPGAN")],
}
"""Lists that are the same on every box."""


class Lists:
    """The GET routes that list, and the POST routes that make the WebUI look again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._networks = Networks(context.logins.data)
        self._embeddings = Embeddings(context.logins.data)

    def routes(self) -> dict[str, Route]:
        """Handlers by path."""
        fixed = {**FIXED, "/samplers": _samplers(), "/schedulers": _schedulers()}
        return {
            **{path: _constant(path, value) for path, value in fixed.items()},
            "/sd-models": self.sd_models,
            "/sd-vae": self.sd_vae,
            "/hypernetworks": self.hypernetworks,
            "/loras": self.loras,
            "/embeddings": self.embeddings,
            "/upscalers": self.upscalers,
            "/scripts": self.scripts,
            "/script-info": self.script_info,
            "/prompt-styles": self.prompt_styles,
            "/cmd-flags": self.cmd_flags,
            "/memory": self.memory,
            "/extensions": self.extensions,
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

    async def sd_vae(self) -> Response:
        """VAEs in files of their own."""
        found = await asyncio.to_thread(vae_files, self._context.logins.data, self._context.library)
        return SafeJson([{"model_name": name, "filename": str(path)} for name, path in found.items()])

    async def hypernetworks(self) -> Response:
        """Hypernetworks on disk."""
        found = await asyncio.to_thread(self._networks.hypernetworks)
        return SafeJson([{"name": one.name, "path": str(one.path)} for one in found])

    async def loras(self) -> Response:
        """LoRAs and their kin on disk."""
        found = await asyncio.to_thread(self._networks.loras)
        return SafeJson(
            [
                {"name": one.name, "alias": one.alias, "path": str(one.path), "metadata": dict(one.metadata)}
                for one in found
            ]
        )

    async def embeddings(self) -> Response:
        """Textual inversions that SD 1.x models read, and those that no such model can."""
        return SafeJson(await asyncio.to_thread(self._embeddings_by_use))

    def _embeddings_by_use(self) -> dict[str, Any]:
        loaded: dict[str, Any] = {}
        skipped: dict[str, Any] = {}
        for one in self._embeddings.all():
            kinds = one.contents.vectors
            row = {
                "step": one.contents.step,
                "sd_checkpoint": one.contents.sd_checkpoint,
                "sd_checkpoint_name": one.contents.sd_checkpoint_name,
                "shape": one.shape,
                "vectors": one.length,
            }
            (loaded if len(kinds) == 1 else skipped)[one.name] = row
        return {"loaded": loaded, "skipped": skipped}

    async def upscalers(self) -> Response:
        """Upscalers, built-in and on disk."""
        found = await asyncio.to_thread(upscalers.upscalers, self._context.logins.data)
        return SafeJson(
            [
                {
                    "name": one.name,
                    "model_name": None,
                    "model_path": str(one.path) if one.path else None,
                    "model_url": None,
                    "scale": one.scale,
                }
                for one in found
            ]
        )

    async def scripts(self) -> Response:
        """Titles of scripts, in lower case, by tab."""
        return SafeJson(
            {tab: [*_selectable(tab), *(row.name for row in always_on() if tab in row.tabs)] for tab in TABS}
        )

    async def script_info(self) -> Response:
        """The arguments of every script."""
        return SafeJson(await asyncio.to_thread(self._script_rows))

    def _script_rows(self) -> list[dict[str, Any]]:
        """Every script on every tab, with what there is to choose from on this box."""
        titles = tuple(one.title for one in self._context.library.checkpoints())
        names = tuple(one.name for one in upscalers.upscalers(self._context.logins.data))
        found = []
        for tab in TABS:
            axes = tuple(labels(tab))
            choices = {
                **{("x/y/z plot", f"{letter} type"): axes for letter in "XYZ"},
                ("refiner", "Checkpoint"): titles,
                ("sampler", "Sampling method"): tuple(catalog.sampler_names()),
                ("sampler", "Schedule type"): tuple(row.label for row in catalog.SCHEDULES),
                ("sd upscale", "Upscaler"): names,
            }
            found += [_script(row, tab, choices) for row in (*selectable(), *always_on()) if tab in row.tabs]
        return found

    async def prompt_styles(self, request: Request) -> Response:
        """Styles of styles.csv, and the caller's own."""
        styles = await asyncio.to_thread(styles_of, self._context.logins.data, self._context.owner(request))
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

    async def extensions(self) -> Response:
        """Plug-ins that were added to this box, in the WebUI's shape: where they come from stands for the repository."""
        found = await asyncio.to_thread(active().all)
        return SafeJson([_extension(one) for one in found if one.origin != "shipped"])

    async def memory(self) -> Response:
        """Bytes of RAM, and of the GPU as the engine told them last."""
        stats = await asyncio.to_thread(self._context.service.stats)
        return SafeJson({"ram": await asyncio.to_thread(memory_of_machine), "cuda": memory_of_device(stats)})


def _extension(one: Info) -> dict[str, Any]:
    return {
        "name": one.name,
        "remote": one.origin,
        "branch": "",
        "commit_hash": "",
        "version": one.version,
        "commit_date": None,
        "enabled": one.enabled and not one.error,
    }


def _constant(path: str, value: Any) -> Route:
    async def show() -> Response:
        return SafeJson(value)

    show.__name__ = path.strip("/").replace("-", "_")
    return show


def _selectable(tab: str) -> list[str]:
    return [row.name for row in selectable() if tab in row.tabs]


def _script(row: ScriptRow, tab: str, choices: Mapping[tuple[str, str], tuple[str, ...]]) -> dict[str, Any]:
    args = [
        {
            "label": arg.label,
            "value": list(arg.default) if isinstance(arg.default, tuple) else arg.default,
            "minimum": arg.minimum,
            "maximum": arg.maximum,
            "step": arg.step,
            "choices": _listed(choices.get((row.name, arg.label), arg.choices)),
        }
        for arg in row.args
    ]
    return {"name": row.name, "is_alwayson": row in always_on(), "is_img2img": tab == "img2img", "args": args}


def _listed(choices: tuple[str, ...] | None) -> list[str] | None:
    return None if choices is None else list(choices)


def _samplers() -> list[dict[str, Any]]:
    return [{"name": s.name, "aliases": list(s.aliases), "options": dict(s.options)} for s in catalog.samplers()]


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


def memory_of_machine() -> dict[str, Any]:
    """Bytes as the kernel tells them: used is what this process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        total, free = (int(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError) as error:
        return {"error": str(error)}
    return {"free": free, "used": pages * os.sysconf("SC_PAGE_SIZE"), "total": total}


def memory_of_device(stats: Mapping[str, float]) -> dict[str, Any]:
    """Bytes of the GPU in the WebUI's shape, from the numbers of the engine; `error` where there is none."""
    told = {key.removeprefix("engine_"): int(value) for key, value in stats.items() if key.startswith("engine_")}
    if "device_bytes" not in told:
        return {"error": "unavailable"}
    total, free = told["device_bytes"], told["device_free"]
    found: dict[str, Any] = {"system": {"free": free, "used": total - free, "total": total}}
    for word in ("active", "allocated", "reserved", "inactive"):
        current = told.get(f"memory_{word}", 0)
        found[word] = {"current": current, "peak": told.get(f"memory_{word}_peak", current)}
    return found | {"events": {"retries": told.get("memory_retries", 0), "oom": told.get("memory_ooms", 0)}}
