"""Taking over what somebody has in a WebUI's folder: links to the files, nothing is copied or changed there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import danqing
from danqing.errors import DanqingError
from danqing.library.walking import walk
from danqing.options import DrawOptions

FOLDERS: Mapping[str, str] = {
    **{
        f"models/{name}": f"models/{name}"
        for name in (
            "Stable-diffusion",
            "VAE",
            "Lora",
            "LyCORIS",
            "hypernetworks",
            "ControlNet",
            "ESRGAN",
            "RealESRGAN",
            "BSRGAN",
        )
    },
    **{f"models/{name}": f"models/{name}" for name in ("DAT", "SwinIR", "ScuNET", "GFPGAN", "VAE-approx", "VAE-taesd")},
    **{f"models/{name}": f"models/{name}" for name in ("Codeformer", "diffusers", "BLIP", "torch_deepdanbooru")},
    "extensions/sd-webui-controlnet/models": "models/ControlNet",
    "extensions/sd-webui-controlnet/annotator/downloads": "models/annotators",
    "embeddings": "embeddings",
    "outputs": "outputs",
    "log/images": "outputs/saved",
}
"""Folder of a WebUI → folder of the data root."""

OUTPUTS = {
    "outdir_txt2img_samples": "outputs/txt2img-images",
    "outdir_img2img_samples": "outputs/img2img-images",
    "outdir_extras_samples": "outputs/extras-images",
    "outdir_txt2img_grids": "outputs/txt2img-grids",
    "outdir_img2img_grids": "outputs/img2img-grids",
}
"""Options that say where pictures lie, where that is elsewhere."""

FILES = {"styles.csv": "styles.csv"}

UNDERSTOOD = (
    *("sd_model_checkpoint", "CLIP_stop_at_last_layers", "randn_source", "eta_ancestral", "eta_ddim", "s_churn"),
    *("s_tmin", "s_tmax", "s_noise", "s_min_uncond", "tiling", "samples_format", "grid_format", "jpeg_quality"),
)
"""Options besides those of `DrawOptions` that are obeyed here."""

OPTIONS = "webui-options.json"
"""In the data root: options taken over, the defaults of every client."""

IGNORED = {
    ".gitkeep",
    "Put Stable Diffusion checkpoints here.txt",
    "Put VAE here.txt",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
}
CONFIG_LIMIT = 16 * 1024 * 1024


@dataclass(slots=True)
class Imported:
    """What was done. Paths of `left` and `present` are below the WebUI's folder."""

    linked: Counter[str] = field(default_factory=Counter)
    """Files by the folder that they are in now."""
    present: list[str] = field(default_factory=list)
    """Files whose place another file has."""
    options: dict[str, Any] = field(default_factory=dict)
    options_left: list[str] = field(default_factory=list)
    """Options that differ from the WebUI's default and mean nothing here."""
    left: list[str] = field(default_factory=list)
    """Files and folders that nothing was made of."""


def import_webui(source: Path, data: Path) -> Imported:
    """Link models, embeddings, styles and pictures of a WebUI into the data root, and keep the options that are understood.

    Run again it links what is new. Files that the data root has keep their places.

    Raises:
        DanqingError: `not_webui`, `cannot_write`.
    """
    source = source.resolve()
    if source == data.resolve() or not any((source / name).exists() for name in ("models", "embeddings", "styles.csv")):
        raise DanqingError("not_webui", path=str(source))
    done = Imported()
    config = _config(source)
    try:
        for folder, target in _folders(source, config).items():
            for path in _files(folder):
                _link(path, data / target / path.relative_to(folder), target, source, done)
        for name, target in FILES.items():
            if (source / name).is_file():
                _link(source / name, data / target, target, source, done)
        _take_options(config, data, done)
    except OSError as error:
        raise DanqingError(
            "cannot_write", path=str(error.filename or data), reason=error.strerror or str(error)
        ) from None
    done.left = sorted(_left(source))
    return done


def _folders(source: Path, config: Mapping[str, Any]) -> dict[Path, str]:
    found = {source / name: target for name, target in FOLDERS.items()}
    for option, target in OUTPUTS.items():
        value = config.get(option)
        if isinstance(value, str) and value:
            folder = (source / value).resolve()
            # Inside `outputs` they come with it.
            if not folder.is_relative_to(source / "outputs"):
                found[folder] = target
    return {folder: target for folder, target in found.items() if folder.is_dir()}


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, names in walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (here / name for name in sorted(names) if name not in IGNORED and not name.startswith("."))


def _link(path: Path, target: Path, folder: str, source: Path, done: Imported) -> None:
    if target.exists() or target.is_symlink():
        if target.is_symlink() and not target.exists():
            target.unlink()  # to a file that has gone
        elif target.resolve() == path.resolve():
            return
        else:
            done.present.append(_shown(path, source))
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(path)
    done.linked[folder] += 1


def _shown(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if path.is_relative_to(source) else str(path)


def _config(source: Path) -> dict[str, Any]:
    path = source / "config.json"
    try:
        if path.stat().st_size > CONFIG_LIMIT:
            return {}
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _take_options(config: Mapping[str, Any], data: Path, done: Imported) -> None:
    defaults = _defaults()
    for key, value in config.items():
        if key in defaults and value == defaults[key]:
            continue
        if _understood(key, value):
            done.options[key] = value
        elif key not in OUTPUTS:
            done.options_left.append(key)
    if done.options:
        data.mkdir(parents=True, exist_ok=True)
        temporary = data / f"{OPTIONS}.tmp"
        temporary.write_text(json.dumps(done.options, ensure_ascii=False, indent=1), "utf-8")
        temporary.replace(data / OPTIONS)


def _understood(key: str, value: Any) -> bool:
    if key in UNDERSTOOD:
        return isinstance(value, str | int | float)
    if key not in DrawOptions.model_fields:
        return False
    try:
        DrawOptions.model_validate({key: value})
    except ValidationError:
        return False
    return True


def _defaults() -> dict[str, Any]:
    """The WebUI's own defaults, which its config.json is full of."""
    rows = json.loads((Path(danqing.__file__).parent / "api" / "options.json").read_text("utf-8"))
    return {row["key"]: row["default"] for row in rows}


def _left(source: Path) -> Iterator[str]:
    """What there is beside what was looked at: other models' folders, extensions, scripts, the page's own settings."""
    models, extensions = source / "models", source / "extensions"
    known = {name.split("/")[1] for name in FOLDERS if name.startswith("models/")}
    for path in models.iterdir() if models.is_dir() else ():
        if path.name not in known and path.name not in IGNORED and (path.is_file() or any(_files(path))):
            yield f"models/{path.name}"
    for path in extensions.iterdir() if extensions.is_dir() else ():
        if path.is_dir() and path.name != "sd-webui-controlnet":
            yield f"extensions/{path.name}"
    for name in ("ui-config.json", "user.css", "config_states", "textual_inversion"):
        if (source / name).is_file() or ((source / name).is_dir() and any(_files(source / name))):
            yield name
    for path in source.glob("styles*.csv"):
        if path.name not in FILES:
            yield path.name
