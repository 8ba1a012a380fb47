"""Routes of the models' files, for whoever looks after the machine: merging, fetching, deleting, pictures beside them."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from danqing.errors import DanqingError
from danqing.gallery.reading import decoded
from danqing.library import chores
from danqing.library.previews import ENDINGS, preview_of
from danqing.library.whole import replace_whole
from danqing.ui import pages_office
from danqing.ui.answers import body_of, html, reader, require_admin, texts_of
from danqing.ui.uploads import KINDS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from danqing.ui.context import UiContext

METHODS = ("weighted sum", "add difference", "no interpolation")
MODEL_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
BESIDE = (".yaml", ".yml", ".json", ".txt", ".description", *ENDINGS, *(f".preview{ending}" for ending in ENDINGS))
PREVIEW_SIDE = 384
PREVIEW_PIXELS = 2**26


class Stock:
    """The routes, for one app."""

    def __init__(self, context: UiContext) -> None:
        self.context = context
        self._runner: subprocess.Popen[bytes] | None = None

    def add_to(self, app: FastAPI) -> None:
        """Hangs the routes into `app`."""
        for path, method, handler in (
            ("/ui/merge", "GET", self.merge),
            ("/ui/chores", "GET", self.chores),
            ("/ui/chores", "POST", self.begin),
            ("/ui/chores/cancel", "POST", self.cancel),
            ("/ui/manifest", "GET", self.manifest),
            ("/ui/models/delete", "POST", self.delete_model),
            ("/ui/models/preview", "POST", self.set_preview),
            ("/ui/models/preview/{kind}/{name:path}", "GET", self.preview),
        ):
            app.add_api_route(path, handler, methods=[method], include_in_schema=False)

    # -- works on files --

    async def merge(self, request: Request) -> Response:
        """The merger's form."""
        require_admin(self.context, request)
        return html(await asyncio.to_thread(pages_office.merger, self.context, reader(request)))

    async def manifest(self, request: Request) -> Response:
        """What can be fetched."""
        require_admin(self.context, request)
        rows = await asyncio.to_thread(lambda: list(chores.fetchable(self.context.data)))
        hub = bool(self.context.settings.get_str("model_hub") or os.environ.get("HF_ENDPOINT"))
        return html(pages_office.manifest(rows, hub, reader(request)))

    async def chores(self, request: Request) -> Response:
        """Works that wait, run or are over."""
        require_admin(self.context, request)
        language = reader(request)
        found = await asyncio.to_thread(chores.all_of, self.context.data)
        return JSONResponse([{**asdict(one), "said": pages_office.outcome(one, language)} for one in found])

    async def begin(self, request: Request) -> Response:
        """Asks for a work."""
        require_admin(self.context, request)
        wanted = await body_of(request)
        kind = wanted.get("kind")
        if kind == "merge":
            title, spec = self._merge(wanted)
        elif kind == "fetch":
            title, spec = self._fetch(wanted)
        else:
            raise DanqingError("invalid_field", field="kind", reason="one of merge, fetch")
        owner = self.context.owner_of(request)
        chore = await asyncio.to_thread(chores.add, self.context.data, kind, title, spec, owner)
        await asyncio.to_thread(self._run)
        return JSONResponse(asdict(chore))

    def _run(self) -> None:
        """A runner, where none is at it and nobody else starts one."""
        if self.context.settings.get_bool("chores_external"):
            return
        if self._runner is None or self._runner.poll() is not None:
            self._runner = chores.start_runner(self.context.data)

    def _merge(self, wanted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """
        Raises:
            DanqingError: `invalid_field`, `out_of_range`, `merge_lacks`, `file_exists`, or what the library says of a model.
        """
        text = {
            key: str(wanted.get(key) or "")
            for key in ("a", "b", "c", "method", "precision", "vae", "discard", "config")
        }
        for key, known in (
            ("method", METHODS),
            ("precision", ("keep", "fp16", "bf16", "fp32")),
            ("config", ("any", "B", "C", "none")),
        ):
            if text[key] not in known:
                raise DanqingError("invalid_field", field=key, reason="one of " + ", ".join(known))
        count = {"weighted sum": 2, "add difference": 3, "no interpolation": 1}[text["method"]]
        names = [text[key] for key in ("a", "b", "c")[:count]]
        if not all(names):
            raise DanqingError("merge_lacks", method=text["method"], count=count)
        for name in names:
            self.context.library.resolve(name)
        name = plain_name(str(wanted.get("name") or ""), empty=True)
        if name and (self.context.data / "models/Stable-diffusion" / f"{name}.safetensors").exists():
            raise DanqingError("file_exists", path=f"{name}.safetensors")
        told = {**text, **dict(zip("abc", [*names, "", ""], strict=False)), "name": name}
        truths = {key: wanted.get(key) is True for key in ("copy_metadata", "record")}
        return name or " + ".join(names), {**told, **truths, "multiplier": multiplier(wanted.get("multiplier"))}

    def _fetch(self, wanted: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """
        Raises:
            DanqingError: `invalid_field`, for unknown names, and where the licences were not accepted.
        """
        known = {row["name"]: row for row in chores.fetchable(self.context.data)}
        names = texts_of(wanted, "names")
        if not names or any(name not in known for name in names):
            raise DanqingError("invalid_field", field="names", reason="one of " + ", ".join(known))
        if wanted.get("accepted") is not True:
            licences = "; ".join(sorted({known[name]["license"] for name in names}))
            raise DanqingError("invalid_field", field="accepted", reason=licences)
        settings = self.context.settings
        hub = settings.get_str("model_hub") or os.environ.get("HF_ENDPOINT", "")
        return ", ".join(names), {"names": names, "hub": hub, "bucket": settings.get_str("model_bucket")}

    async def cancel(self, request: Request) -> Response:
        """Ends a work."""
        require_admin(self.context, request)
        wanted = await body_of(request)
        await asyncio.to_thread(chores.cancel, self.context.data, str(wanted.get("id", "")))
        return JSONResponse({})

    # -- files of models --

    def _file(self, kind: str, name: str) -> Path:
        """A model's file by its name inside its kind's folder.

        Raises:
            DanqingError: `invalid_field`, `unknown_model`.
        """
        if kind not in KINDS:
            raise DanqingError("invalid_field", field="kind", reason="one of " + ", ".join(KINDS))
        folder = self.context.data / KINDS[kind][0]
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not name.lower().endswith(KINDS[kind][1]):
            raise DanqingError("invalid_field", field="name", reason=name[:60])
        path = folder / pure
        # Names that are longer than a disk takes are no files either.
        if not os.path.isfile(path):
            raise DanqingError("unknown_model", name=name[:200], folder=str(folder), known="-")
        return path

    async def delete_model(self, request: Request) -> Response:
        """Moves a model's file, and what lies beside it under its name, into the data folder's bin; or brings it back."""
        require_admin(self.context, request)
        wanted = await body_of(request)
        kind, name = str(wanted.get("kind", "")), str(wanted.get("name", ""))
        act = self._restore if wanted.get("restore") is True else self._discard
        await asyncio.to_thread(act, kind, name)
        return JSONResponse({})

    def _bin(self, kind: str) -> Path:
        return self.context.data / "trash" / kind

    def _discard(self, kind: str, name: str) -> None:
        path = self._file(kind, name)
        target = self._bin(kind) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for one in (path, *_beside(path)):
            moved = target.with_name(one.name)
            _make_way(moved)
            one.replace(moved)

    def _restore(self, kind: str, name: str) -> None:
        if kind not in KINDS or ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise DanqingError("invalid_field", field="name", reason=name[:60])
        path, target = self._bin(kind) / name, self.context.data / KINDS[kind][0] / name
        if not os.path.isfile(path):
            raise DanqingError("unknown_model", name=name[:200], folder="trash", known="-")
        if target.exists():
            raise DanqingError("file_exists", path=name)
        for one in (*_beside(path), path):
            back = target.with_name(one.name)
            if not back.exists():
                one.replace(back)

    async def preview(self, request: Request) -> Response:
        """The picture beside a model."""
        kind, name = request.path_params["kind"], request.path_params["name"]
        path = await asyncio.to_thread(lambda: preview_of(self._file(kind, name)))
        if path is None:
            raise DanqingError("unknown_picture", picture=name[:64])
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": "default-src 'none'; sandbox"}
        return FileResponse(path, headers=headers)

    async def set_preview(self, request: Request) -> Response:
        """Lays a finished picture of the owner beside a model, as its preview."""
        require_admin(self.context, request)
        wanted = await body_of(request)
        picture = await asyncio.to_thread(self.context.service.gallery.get, str(wanted.get("picture", "")))
        if picture.owner != self.context.owner_of(request):
            raise DanqingError("unknown_picture", picture=picture.id[:64])
        await asyncio.to_thread(self._lay, picture.path, str(wanted.get("kind", "")), str(wanted.get("name", "")))
        return JSONResponse({})

    def _lay(self, picture: Path, kind: str, name: str) -> None:
        model = self._file(kind, name)
        target = model.with_name(f"{model.stem}.preview.png")
        # Old pictures go when the new one is there, whole: one that cannot be read or written costs nobody the old one.
        replace_whole(target, decoded(picture.read_bytes(), PREVIEW_PIXELS, thumbnail))
        for ending in ENDINGS:
            older = model.with_name(f"{model.stem}.preview{ending}")
            if older != target:
                older.unlink(missing_ok=True)


def _beside(model: Path) -> list[Path]:
    """What lies beside a model under its name: configuration, notes, pictures; nothing where another model has the name too."""
    if any(model.with_suffix(ending).is_file() for ending in MODEL_ENDINGS if ending != model.suffix.lower()):
        return []
    found = (model.with_name(model.stem + ending) for ending in BESIDE)
    return [path for path in found if path != model and path.is_file()]


def _make_way(target: Path) -> None:
    """An older file of this name in the bin stays, under a number."""
    if target.exists():
        free = (target.with_name(f"{target.stem} ({n}){target.suffix}") for n in itertools.count(2))
        target.replace(next(path for path in free if not path.exists()))


def plain_name(name: str, *, empty: bool = False) -> str:
    """A file's name without folders and ending.

    Raises:
        DanqingError: `invalid_field`.
    """
    name = name.strip().removesuffix(".safetensors")
    fits = PurePosixPath(name).name == name and not name.startswith(".") and "\\" not in name and name.isprintable()
    if (not name and empty) or (fits and 0 < len(name.encode()) <= 180):
        return name
    raise DanqingError("invalid_field", field="name", reason=name[:60])


def multiplier(value: Any) -> float:
    """
    Raises:
        DanqingError: `not_a_number`, `out_of_range`.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DanqingError("not_a_number", field="multiplier") from None
    if not -10 <= number <= 10:
        raise DanqingError("out_of_range", field="multiplier", value=str(value)[:40], minimum=-10, maximum=10)
    return number


def thumbnail(image: Image.Image) -> bytes:
    """A small PNG of a picture."""
    small, out = image.convert("RGB"), io.BytesIO()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    small.save(out, "PNG")
    return out.getvalue()
