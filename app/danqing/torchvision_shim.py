"""Lets torchvision be imported beside a torch that its compiled part does not fit, such as torch's build for CPUs.

torchvision has no build for CPUs; beside one, its extension does not load and `import torchvision` dies of operators that
nobody defined, and with it much of diffusers, transformers and spandrel. Import this module before any of them. Where the
extension loads, or torchvision is absent, nothing changes.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""The operators that importing torchvision asks for by name. Nothing here calls them."""


def _repaired() -> torch.library.Library | None:
    """The definitions, which live as long as this object; None where none are needed."""
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations or _loads(Path(spec.submodule_search_locations[0])):
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _loads(folder: Path) -> bool:
    try:
        for extension in folder.glob("_C*.so"):
            ctypes.CDLL(str(extension))
    except OSError:
        return False
    return True


LIBRARY = _repaired()
"""What was defined in torchvision's name; None where it is whole or absent."""
