"""Which upscalers there are: the built-in ones and the files in the models' folders. No torch: the web process reads this.

Order and names are the WebUI's: None, Lanczos, Nearest, then the others by name. A file goes by its name without the
extension; files that the WebUI fetches under a name of its own go by that name too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from danqing.errors import DanqingError
from danqing.library.walking import files_below
from danqing.plugins.loading import active

Kind = Literal["none", "lanczos", "nearest", "network", "diffusion", "plugin"]

FOLDERS = ("ESRGAN", "RealESRGAN", "BSRGAN", "DAT", "SwinIR", "ScuNET")
"""Under DATA/models; what a file holds is told by its tensors, not by its folder."""
DIFFUSION = {"StableDiffusionUpscalePipeline": 4.0, "StableDiffusionLatentUpscalePipeline": 2.0}
"""Upscalers that are folders in diffusers' layout, by the class that `model_index.json` names, and their scale."""
INDEX = "model_index.json"
INDEX_LIMIT = 65536
"""Bytes of it that are believed."""
EXTENSIONS = (".pth", ".pt", ".safetensors")

LATENT_MODES: dict[str, tuple[str, bool]] = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
"""Upscalers of hires fix that work on the latent, the first its default: mode and antialiasing of torch's `interpolate`."""

KNOWN_FILES = {
    "DAT_x2": "DAT x2",
    "DAT_x3": "DAT x3",
    "DAT_x4": "DAT x4",
    "realesr-general-x4v3": "R-ESRGAN General 4xV3",
    "realesr-general-wdn-x4v3": "R-ESRGAN General WDN 4xV3",
    "realesr-animevideov3": "R-ESRGAN AnimeVideo",
    "RealESRGAN_x4plus": "R-ESRGAN 4x+",
    "RealESRGAN_x4plus_anime_6B": "R-ESRGAN 4x+ Anime6B",
    "RealESRGAN_x2plus": "R-ESRGAN 2x+",
    "scunet_color_real_gan": "ScuNET GAN",
    "scunet_color_real_psnr": "ScuNET PSNR",
    "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN": "SwinIR 4x",
}
"""File name without extension to the WebUI's name for it."""

SCALE = 4.0
"""What the WebUI says of an upscaler whose scale it does not know before it is loaded."""


@dataclass(frozen=True, slots=True)
class Upscaler:
    """One choice. `path`: the network's file, None for the built-in ones. `scale`: by its name; the network itself decides."""

    name: str
    kind: Kind
    path: Path | None = None
    scale: float = SCALE


BUILT_IN = (Upscaler("None", "none"), Upscaler("Lanczos", "lanczos"), Upscaler("Nearest", "nearest"))


def upscalers(data: Path) -> tuple[Upscaler, ...]:
    """All upscalers of a data root, in the order of lists. A file is found without a restart."""
    found: dict[str, Upscaler] = {}
    for folder in FOLDERS:
        for path in _files(data / "models" / folder):
            name = KNOWN_FILES.get(path.stem, path.stem)
            found.setdefault(name, Upscaler(name, "network", path, scale_in(path.stem)))
        for path in _folders(data / "models" / folder):
            scale = DIFFUSION.get(_class_of(path), 0.0)
            if scale:
                found.setdefault(path.name, Upscaler(path.name, "diffusion", path, scale))
    for one in active().upscalers():
        found.setdefault(one.name, Upscaler(one.name, "plugin", None, one.scale))
    return BUILT_IN + tuple(sorted(found.values(), key=lambda row: row.name.casefold()))


def _files(folder: Path) -> list[Path]:
    """Model files of a folder and its sub-folders, in the order of their names; parts of a model of many files are none."""
    models = _folders(folder)
    return sorted(
        path
        for path in files_below(folder)
        if path.suffix.lower() in EXTENSIONS and not any(path.is_relative_to(model) for model in models)
    )


def _folders(folder: Path) -> list[Path]:
    """Models in diffusers' layout."""
    return sorted(path.parent for path in files_below(folder) if path.name == INDEX)


def _class_of(folder: Path) -> str:
    """The pipeline that a folder is for, "" where it does not say."""
    try:
        with (folder / INDEX).open("rb") as file:
            index = json.loads(file.read(INDEX_LIMIT))
    except (OSError, ValueError):
        return ""
    return str(index.get("_class_name", "")) if isinstance(index, dict) else ""


def scale_in(name: str) -> float:
    """2 for "x2plus" or "2x_Film"; `SCALE` where the name says nothing."""
    match = re.search(r"(?<![0-9a-z])(?:x([1-9])(?![0-9])|([1-9])x(?![a-z0-9]))", name.lower())
    return float(match[1] or match[2]) if match else SCALE


def find(data: Path, name: str) -> Upscaler:
    """The upscaler of this name, or of a file's name; "" is None's.

    Raises:
        DanqingError: `upscaler_missing`, for a name that the WebUI knows and whose file is not here; `unknown_upscaler`.
    """
    rows = upscalers(data)
    for row in rows:
        if name == row.name or (row.path is not None and name in (row.path.stem, row.path.name)):
            return row
    if not name:
        return BUILT_IN[0]
    file = next((file for file, known in KNOWN_FILES.items() if known == name), None)
    if file is not None:
        raise DanqingError("upscaler_missing", name=name, file=f"{file}.pth", folder=str(data / "models" / "ESRGAN"))
    raise DanqingError("unknown_upscaler", name=name[:100], known=", ".join(row.name for row in rows))
