"""Faces of a photograph are found; `tests/engine/test_plugged.py` has them drawn once more.

The photograph is scikit-image's `astronaut` (NASA, public domain).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from danqing.shipped.detailer.engine import detected, mask_of

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "astronaut.png"
SIDE = 128


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.open(PHOTOGRAPH).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def test_a_face_is_found_and_its_mask_covers_it(photograph: Image.Image, tmp_path: Path) -> None:
    ((left, top, right, bottom),) = detected(photograph, tmp_path)
    assert left < 56 < right
    assert top < 28 < bottom
    mask = np.asarray(mask_of((left, top, right, bottom), photograph.size))
    assert mask[28, 56] == 255
    assert mask[100:].max() == 0
    assert detected(Image.new("RGB", (SIDE, SIDE)), tmp_path) == []
    assert detected(Image.new("RGB", (16, 16)), tmp_path) == []
