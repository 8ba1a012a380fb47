"""Tiles, grids, legends."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from danqing.imaging.grid import Label, annotated, image_grid, rows_of
from danqing.imaging.tiles import combine, split, tiling

from .support import difference, gradient, recorded


def test_tiles_lie_as_the_webui_lays_them() -> None:
    plan = tiling((128, 128), (64, 64), 16)
    assert plan.lefts == plan.tops == (0, 32, 64)
    assert tiling((1000, 512), (512, 512), 64).lefts == (0, 244, 488)
    assert tiling((100, 64), (192, 192), 8).boxes == [(-92, -128, 100, 64)], (
        "a small picture lies at the end of its tile"
    )


@pytest.mark.parametrize("size", [(128, 128), (200, 90), (64, 64), (65, 300), (40, 100)])
def test_tiles_put_together_are_the_picture(size: tuple[int, int]) -> None:
    picture, plan = gradient(*size), tiling(size, (64, 64), 16)
    assert difference(combine(split(picture, plan), plan), picture) <= 1


def test_the_overlap_fades() -> None:
    plan = tiling((112, 64), (64, 64), 16)
    whole = np.asarray(combine([Image.new("RGB", (64, 64), c) for c in ("black", "white")], plan))[32, :, 0].astype(int)
    assert whole[47] == 0
    assert whole[64] == 255
    assert (np.diff(whole[48:64]) > 0).all()


@pytest.mark.parametrize(
    ("count", "options", "wanted"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (3, {}, 2),
        (8, {}, 3),
        (6, {"n_rows": 4}, 4),
        (2, {"n_rows": 9}, 2),
        (8, {"n_rows": 0, "batch_size": 4}, 4),
        (10, {"no_gaps": True}, 2),
        (7, {"no_gaps": True}, 1),
    ],
)
def test_rows(count: int, options: dict[str, int], wanted: int) -> None:
    assert rows_of(count, **options) == wanted  # type: ignore[arg-type]


def test_the_recorded_grid() -> None:
    pictures = [recorded(f"x_loopback.{index}") for index in (1, 2, 3)]
    assert difference(image_grid(pictures, 1), recorded("x_loopback.0")) == 0
    assert image_grid(pictures, 2).getpixel((200, 200)) == (0, 0, 0), "an empty cell is black"


def test_a_legend_takes_room_and_leaves_the_cells_alone() -> None:
    grid = image_grid([gradient(64, 64)] * 4, 2)
    sheet = annotated(
        grid,
        (64, 64),
        [[Label("猫在树上，很长很长的提示词")], [Label("dog", active=False)]],
        [[Label("Steps: 20")]] * 2,
        4,
    )
    left = 48
    assert sheet.width == 128 + left + 4
    assert sheet.height > 128 + 4
    top = sheet.height - 132
    assert difference(sheet.crop((left, top, left + 64, top + 64)), gradient(64, 64)) == 0
    assert difference(sheet.crop((left + 68, top + 68, left + 132, top + 132)), gradient(64, 64)) == 0
    heading = np.asarray(sheet.crop((left, 0, left + 64, top)))
    assert (heading < 128).any(), "there are letters"
    grey = np.asarray(sheet.crop((left + 68, 0, left + 132, top)))
    assert grey.min() > 0x60, "inactive ones are grey"


def test_without_texts_there_is_no_legend() -> None:
    grid = image_grid([gradient(32, 32)] * 2, 1)
    assert difference(annotated(grid, (32, 32), [[Label("")], [Label("")]], [[Label("")]]), grid) == 0
