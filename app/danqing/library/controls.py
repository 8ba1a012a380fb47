"""ControlNets on disk: names, hashes, and where the tensors of a file go. No torch.

A file goes by its name without the ending (one in diffusers' layout by its folder's) and the hash that the ControlNet extension
shows: the first eight digits of the sha256 of 64 KiB from the first megabyte on.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from danqing.errors import DanqingError
from danqing.library.architecture import Architecture
from danqing.library.hashes import Stamp
from danqing.library.index import MINI, stamp_of
from danqing.library.keys import Route, unet_name
from danqing.library.routes import Destination, Routes, routes_of
from danqing.library.walking import files_below
from danqing.library.weights import Weights

FOLDER = ("models", "ControlNet")
EXTENSIONS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
NONE = "None"
HASH_START, HASH_BYTES = 0x100000, 0x10000

_HINT = re.compile(r"input_hint_block\.(\d+)\.(weight|bias)")
_ZERO = re.compile(r"zero_convs\.(\d+)\.0\.(weight|bias)")
LAST_HINT = 14


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet's file. `title`: "name [hash]", as lists show it."""

    name: str
    path: Path
    hash: str

    @property
    def title(self) -> str:
        return f"{self.name} [{self.hash}]"


class Controls:
    """The ControlNets under one data root; a file is found without a restart."""

    def __init__(self, data: Path) -> None:
        self.folder = data.joinpath(*FOLDER)

    def all(self) -> list[Control]:
        """By name; behind them those that ship beside the miniature model."""
        paths = (path for path in files_below(self.folder) if path.suffix.lower() in EXTENSIONS)
        found = sorted(paths, key=lambda path: name_of(path).lower())
        taken = {name_of(path) for path in found}
        found += [path for path in sorted(MINI.parent.glob(f"{MINI.stem}-*.safetensors")) if path.stem not in taken]
        return [Control(name_of(path), path, _hash_of(path)) for path in found]

    def find(self, name: str) -> Control:
        """By its title, its name in any case, or the shortest name that contains the text.

        Raises:
            DanqingError: `unknown_control`.
        """
        rows = self.all()
        bare = re.sub(r"\s*\[[0-9a-f]*\]\s*$", "", name).strip()
        for row in rows:
            if name == row.title or bare.lower() == row.name.lower():
                return row
        # Those of the miniature model fit no other: only their whole names mean them.
        own = (row for row in rows if row.path.parent != MINI.parent)
        found = sorted((row for row in own if bare and bare.lower() in row.name.lower()), key=lambda row: len(row.name))
        if not found:
            known = ", ".join(row.title for row in rows) or "-"
            raise DanqingError("unknown_control", name=name[:200], folder=str(self.folder), known=known)
        return found[0]


def name_of(path: Path) -> str:
    """Of a file: its own without the ending, its folder's where that is diffusers' layout."""
    stem = path.stem
    return path.parent.name if stem.split(".")[0] == "diffusion_pytorch_model" else stem


def _hash_of(path: Path) -> str:
    stamp = stamp_of(path)
    return _digest(path, stamp) if stamp else ""


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, stamp: Stamp) -> str:
    with path.open("rb") as file:
        file.seek(HASH_START)
        return hashlib.sha256(file.read(HASH_BYTES)).hexdigest()[:8]


def control_routes(weights: Weights, layers: int) -> Routes:
    """Where every tensor of a ControlNet goes, for part "control"; {} for a file that is none."""
    found: Routes = {}
    for name in weights.shapes:
        ours = control_name(name, layers)
        if ours is not None:
            found[name] = (Destination("control", Route(ours)),)
    return found


def base_routes(weights: Weights, architecture: Architecture, taken: set[str]) -> Routes:
    """Where a checkpoint's UNet goes in a ControlNet that is a copy of its first half, but for the parameters `taken`."""
    half = ("conv_in.", "down_blocks.", "mid_block.", "time_embedding.", "add_embedding.")
    found: Routes = {}
    for name, rows in routes_of(weights, architecture).items():
        kept = [row.route for row in rows if row.part == "unet" and row.route.name.startswith(half)]
        if kept and kept[0].name not in taken:
            found[name] = (Destination("control", kept[0]),)
    return found


def lora_pairs(weights: Weights, layers: int) -> dict[str, str]:
    """The parameters that a control-LoRA changes → the stems of their pairs of matrices."""
    stems = (name.removesuffix(".up") for name in weights.shapes if name.endswith(".up"))
    found = {control_name(f"{stem}.weight", layers): stem for stem in stems}
    return {name: stem for name, stem in found.items() if name is not None}


def pools(control: Control) -> bool:
    """Whether a ControlNet's outputs are averaged over the picture, as those trained on shuffled ones are.

    Tensors do not tell: the YAML beside the file does, else its name.
    """
    try:
        text = control.path.with_suffix(".yaml").read_text("utf-8")[:TEXT_LIMIT]
    except (OSError, UnicodeDecodeError):
        return "shuffle" in control.name.lower()
    return re.search(r"global_average_pooling:\s*true", text, re.IGNORECASE) is not None


TEXT_LIMIT = 65536


def control_name(name: str, layers: int) -> str | None:
    """A tensor's name in diffusers' `ControlNetModel`; None: not a ControlNet's.

    Layouts: the original's, with or without `control_model.` before it, and diffusers' own.
    """
    bare = name.removeprefix("control_model.")
    if found := _HINT.fullmatch(bare):
        place = int(found[1])
        if place in (0, LAST_HINT):
            return f"controlnet_cond_embedding.{'conv_in' if place == 0 else 'conv_out'}.{found[2]}"
        return f"controlnet_cond_embedding.blocks.{place // 2 - 1}.{found[2]}"
    if found := _ZERO.fullmatch(bare):
        return f"controlnet_down_blocks.{found[1]}.{found[2]}"
    if bare.startswith("middle_block_out.0."):
        return "controlnet_mid_block." + bare.removeprefix("middle_block_out.0.")
    if bare.endswith((".up", ".down")):
        return None
    if bare.startswith(("input_blocks.", "middle_block.", "time_embed.", "label_emb.")):
        return unet_name(bare, layers)
    return bare if bare.startswith(THEIRS) else None


THEIRS = (
    *("conv_in.", "down_blocks.", "mid_block.", "time_embedding.", "add_embedding.", "controlnet_"),
    *("task_embedding", "transformer_layes.", "spatial_ch_projs.", "control_add_embedding."),
)
"""What diffusers' names begin with, those of a union too."""
