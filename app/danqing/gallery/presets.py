"""Presets: all boxes under a name, each owner's own, in DATA/presets. Blocks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.library.whole import replace_whole

MOST = 200
LONGEST_NAME = 80
FILE_LIMIT = 4 << 20


def names(data: Path, owner: str) -> list[str]:
    """Of this owner, in order."""
    return sorted(_read(data, owner), key=str.casefold)


def load(data: Path, owner: str, name: str) -> dict[str, Any]:
    """The boxes of a preset.

    Raises:
        DanqingError: `unknown_preset`.
    """
    found = _read(data, owner).get(name)
    if not isinstance(found, dict):
        raise DanqingError("unknown_preset", name=name[:LONGEST_NAME])
    return found


def save(data: Path, owner: str, name: str, boxes: Mapping[str, Any]) -> list[str]:
    """Keeps boxes under a name, in the place of an older one of that name; all names.

    Raises:
        DanqingError: `invalid_field`, `out_of_range` for too many, `disk_full`.
    """
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise DanqingError("invalid_field", field="preset_name", reason=name[:LONGEST_NAME] or "empty")
    kept = _read(data, owner) | {name: dict(boxes)}
    if len(kept) > MOST:
        raise DanqingError("out_of_range", field="preset", value=len(kept), minimum=0, maximum=MOST)
    return _write(data, owner, kept)


def delete(data: Path, owner: str, name: str) -> list[str]:
    """Forgets a preset; the names that are left."""
    return _write(data, owner, {key: value for key, value in _read(data, owner).items() if key != name})


def forget(data: Path, owner: str) -> None:
    """Forget all presets of an owner."""
    _file(data, owner).unlink(missing_ok=True)


def _file(data: Path, owner: str) -> Path:
    return data / "presets" / f"{hashlib.sha256(owner.encode()).hexdigest()[:32]}.json"


def _read(data: Path, owner: str) -> dict[str, Any]:
    path = _file(data, owner)
    try:
        if path.stat().st_size > FILE_LIMIT:
            return {}
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(data: Path, owner: str, kept: Mapping[str, Any]) -> list[str]:
    text = json.dumps(kept, ensure_ascii=False)
    if len(text.encode()) > FILE_LIMIT:
        raise DanqingError("text_too_long", field="preset", length=len(text), maximum=FILE_LIMIT)
    path = _file(data, owner)
    try:
        replace_whole(path, text.encode())
    except OSError:
        raise DanqingError("disk_full", free_mb=0) from None
    return sorted(kept, key=str.casefold)
