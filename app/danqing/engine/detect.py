"""Maps by preprocessors with networks, asked for outside of any drawing: what a preview shows."""

from __future__ import annotations

import json
from typing import Any

from danqing.control import previews
from danqing.control.catalog import Values, find
from danqing.engine.memory import is_out_of_memory
from danqing.engine.protocol import Message
from danqing.engine.studio import Studio
from danqing.errors import DanqingError


def detected(studio: Studio, body: dict[str, Any]) -> Message:
    """The answer to a message `detect`.

    Raises:
        DanqingError: `unknown_picture`, `too_large`, those of `maps.detect`.
    """
    row = find(str(body["module"]))
    image = studio.image(str(body["image"]))
    mask = studio.image(str(body["mask"])) if body.get("mask") else None
    values = Values(int(body["resolution"]), float(body["a"]), float(body["b"]))
    try:
        png, poses = previews.seen(studio.data, row, image, mask, values)
    except RuntimeError as error:
        # A map is small beside a picture: where it has no room, other work has taken it and will give it back.
        if not is_out_of_memory(error):
            raise
        raise DanqingError("map_out_of_memory", name=row.name) from error
    return Message({"event": "map", "job": str(body["job"]), "poses": json.dumps(poses) if poses else ""}, (png,))
