"""What the recordings in reference/ are: answers of the ControlNet extension v1.1.455 about one picture of 160x96."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from danqing.control.plain import Pixels

REFERENCE = Path(__file__).parent / "reference"


def listed(name: str) -> Any:
    """A recorded answer of a list route."""
    return json.loads((REFERENCE / f"cn_{name}.json").read_text("utf-8"))


def pixels(name: str) -> Pixels:
    """A recorded picture, (h, w, 3)."""
    return np.asarray(Image.open(REFERENCE / name).convert("RGB"))


def lines() -> Pixels:
    """Black strokes on white, (128, 128, 3)."""
    page = np.full((128, 128, 3), 255, np.uint8)
    page[60:64] = 0
    page[:, 60:64] = 0
    return page
