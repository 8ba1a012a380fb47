"""VAEs in files of their own, and which of them a checkpoint is drawn with. No torch.

Folders: `DATA/models/VAE`, and `NAME.vae.safetensors` beside a checkpoint. The order of the choice is the WebUI's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from danqing.library.index import Checkpoint, Library, models_below, natural

EXTENSIONS = (".safetensors", ".ckpt", ".pt")
AUTOMATIC = "Automatic"
NONE = "None"
METADATA_LIMIT = 1024 * 1024


def vae_files(data: Path, library: Library | None = None) -> dict[str, Path]:
    """File name → file, in natural order. Of two files of one name the one in `models/VAE` counts."""
    root = data / "models" / "VAE"
    found: dict[str, Path] = {}
    for folder in library.folders if library else (data / "models" / "Stable-diffusion",):
        for path in models_below(folder, tuple(f".vae{ending}" for ending in EXTENSIONS), vaes=True):
            found[path.name] = path
    for path in models_below(root, EXTENSIONS, vaes=True):
        found[path.name] = path
    return dict(sorted(found.items(), key=lambda row: natural(row[0])))


def choose(data: Path, checkpoint: Checkpoint, setting: str, overrides: bool = True) -> Path | None:
    """The file whose VAE the checkpoint is drawn with; None is its own.

    Args:
        setting: "Automatic", "None" or a file name; a name that is not there counts as "None".
        overrides: a setting other than "Automatic" comes before what the checkpoint's user metadata or a VAE of its name say.
    """
    files = vae_files(data)
    chosen = _named(setting, files)
    if setting != AUTOMATIC and overrides:
        return chosen
    preferred = user_metadata(checkpoint.filename).get("vae")
    if isinstance(preferred, str) and preferred not in ("", AUTOMATIC):
        if preferred == NONE:
            return None
        if (path := _named(preferred, files)) is not None:
            return path
    for name, path in files.items():
        if name.startswith(checkpoint.base):
            return path
    return chosen


def _named(name: str, files: dict[str, Path]) -> Path | None:
    if name in files:
        return files[name]
    # Infotexts of other programs leave the ending out.
    return next((path for file, path in files.items() if path.stem == name), None)


def user_metadata(path: Path) -> dict[str, Any]:
    """What the user noted of a model file: the JSON beside it (description, notes, vae, activation text and the like)."""
    beside = path.with_suffix(".json")
    try:
        if beside.stat().st_size > METADATA_LIMIT:
            return {}
        found = json.loads(beside.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
