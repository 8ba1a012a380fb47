"""Pictures of models: the ones that lie beside their files, as the WebUI and its users name them, and those inside. No torch."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
COVERS = "ssmd_cover_images"
THUMBNAIL = "modelspec.thumbnail"
"""Metadata with pictures in base64: a list that some trainers write, and the one of https://github.com/Stability-AI/ModelSpec."""

COVER_LIMIT = 16 * 1024 * 1024
"""Characters of a picture in base64."""


def preview_of(model: Path) -> Path | None:
    """The picture beside a model's file: `name.png` or `name.preview.png`, in one of the usual formats; None without one."""
    stem = model.with_suffix("") if model.suffix else model
    for ending in ENDINGS:
        for path in (stem.with_name(stem.name + ending), stem.with_name(f"{stem.name}.preview{ending}")):
            if path != model and path.is_file():
                return path
    return None


def covers(metadata: Mapping[str, Any]) -> list[bytes]:
    """The pictures inside a file's metadata; what is no base64 is left out."""
    listed = metadata.get(COVERS, ())
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            listed = ()
    texts = [*(listed if isinstance(listed, list) else ()), metadata.get(THUMBNAIL)]
    return [data for data in map(_decoded, texts) if data]


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > COVER_LIMIT:
        return b""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:image/") else text, validate=True)
    except (binascii.Error, ValueError):
        return b""
