"""Maps of pictures as Pillow has them, as PNG: what a door shows before anything is drawn. No torch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from danqing.control import maps, plain, pose
from danqing.control.catalog import Row, Values
from danqing.control.plain import Pixels


def preview(
    data: Path, row: Row, picture: Image.Image, mask: Image.Image | None, values: Values, seed: int = 0
) -> bytes:
    """The PNG of the map of `picture` (L, RGB or RGBA). Errors are those of `maps.detect`."""
    white = None if mask is None else np.asarray(mask.convert("RGB"))[:, :, 0]
    found = maps.detect(
        data,
        row.name,
        np.asarray(picture),
        resolution=values.resolution,
        a=values.a,
        b=values.b,
        mask=white,
        seed=seed,
    )
    return png(found)


def seen(
    data: Path, row: Row, picture: Image.Image, mask: Image.Image | None, values: Values
) -> tuple[bytes, dict[str, Any] | None]:
    """As `preview`, by any preprocessor; with the people as OpenPose's JSON where it finds people. Needs torch for a network."""
    if "OpenPose" in row.types and row.how == "network":
        from danqing.control import networks

        files = maps.files_of(data, row)
        found = networks.detect_pose(files, row.name, plain.rgb(np.asarray(picture)), values)
        body, hands, face = networks.POSES[row.name]
        return png(pose.draw(found, body=body, hands=hands, face=face)), pose.to_json(found)
    return preview(data, row, picture, mask, values), None


def render(value: dict[str, Any]) -> bytes:
    """The PNG of a pose in OpenPose's JSON.

    Raises:
        DanqingError: `invalid_field`, `too_many_pixels`.
    """
    return png(pose.draw(pose.from_json(value)))


def png(pixels: Pixels) -> bytes:
    """(h, w, 3) uint8 as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
