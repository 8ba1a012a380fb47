"""What of LoRA files a model has no place for, or nobody knows: told to the owner, for the picture is drawn without it."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.adapters.keys import Places, split
from danqing.adapters.layers import kind_of
from danqing.engine.patching import places_of
from danqing.errors import DanqingError
from danqing.library.embedding_files import BUNDLED
from danqing.library.weights import open_file_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from danqing.engine.calls import Adapters
    from danqing.engine.models import Model

REMEMBERED = 256

_counts: OrderedDict[tuple[str, Path, int], tuple[int, int]] = OrderedDict()


def unplaced(model: Model, adapters: Adapters) -> list[DanqingError]:
    """An `adapter_partly` for each LoRA of which a part is used. One of which nothing fits fails where it is applied. One thread
    uses this.

    Raises:
        DanqingError: `model_broken` or `model_unsafe`.
    """
    found = []
    for path, stamp in {(one.path, one.stamp) for one in adapters if one.kind == "lora"}:
        key = (model.key, path, stamp)
        if key not in _counts:
            _counts[key] = _count(open_file_header(path).tensors, places_of(model))
        _counts.move_to_end(key)
        while len(_counts) > REMEMBERED:
            _counts.popitem(last=False)
        missing, total = _counts[key]
        if 0 < missing < total:
            where = {"name": path.name, "model": model.checkpoint.name}
            found.append(DanqingError("adapter_partly", **where, count=missing, total=total))
    return found


def _count(names: Iterable[str], places: Places) -> tuple[int, int]:
    """Modules that find no place or are of no known kind, and all of them."""
    groups: dict[str, set[str]] = {}
    for name in names:
        if not name.startswith(BUNDLED):
            stem, leaf = split(name) or (name.rpartition(".")[0], "")
            groups.setdefault(stem, set()).add(leaf)
    missing = sum(kind_of(leaves) is None or places.find(stem) is None for stem, leaves in groups.items())
    return missing, len(groups)
