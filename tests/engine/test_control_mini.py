"""The shipped ControlNets of the miniature model are followed: the short version of `bench.control_mini`, the same judges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bench import control_mini
from bench.control_mini import Easel, Pixels, cases, drawn, followed, plain, two_units
from danqing.mini.control_data import KINDS
from danqing.mini.control_nets import control_file
from danqing.mini.judge import Bools, foreground
from danqing.mini.scenes import COLOURS, SIZE, Scene, Thing

COUNT = 10
LEAST = {"canny": 0.6, "pose": 0.8}
"""Shares that must be followed: of edges, and of joints."""


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return Easel(tmp_path_factory.mktemp("easel"))


@pytest.mark.parametrize("kind", LEAST)
def test_maps_of_unseen_scenes_are_followed(easel: Easel, kind: str) -> None:
    rows = cases(kind, COUNT)
    pictures = drawn(easel, kind, rows)
    whole = followed(kind, rows, pictures)
    assert whole.share >= LEAST[kind]
    assert whole.colour >= 0.85
    few = rows[:3]
    assert followed(kind, few, plain(easel, few)).share < followed(kind, few, pictures[:3]).share


def test_objects_stand_where_a_depth_map_has_them_and_the_near_one_in_front(easel: Easel) -> None:
    """Overlap over union of what stands before the background; then the order of the two."""
    rows = cases("depth", 6)
    pictures = drawn(easel, "depth", rows)
    overlaps = [
        _overlap(foreground(picture)[0], row.hint[..., 0] > 0) for row, picture in zip(rows, pictures, strict=True)
    ]
    assert sum(overlaps) / len(overlaps) >= 0.75
    assert followed("depth", rows, pictures).share >= 5 / 6
    assert followed("depth", rows, pictures).colour >= 0.85


def _overlap(one: Bools, other: Bools) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_the_files_are_small() -> None:
    assert all(control_file(kind).stat().st_size <= 5_000_000 for kind in KINDS)


def test_weight_zero_is_no_control_to_the_last_bit(easel: Easel) -> None:
    assert control_mini.weightless(easel, "canny", cases("canny", 1)[0])


def test_units_of_two_kinds_are_followed_together(easel: Easel) -> None:
    row = two_units(easel, 2)
    alone = max(int(str(row["edges %"])), int(str(row["depth %"])))
    assert int(str(row["whole %"])) > alone


def test_broad_colours_come_from_the_other_picture_and_detail_does_not(easel: Easel) -> None:
    """tile_colorfix: a heart of its own, over another picture's colours and without its stripes; "+sharp" is sharper."""
    other = np.full((SIZE, SIZE, 3), COLOURS["cyan"], np.uint8)
    other[32:96, 32:96] = COLOURS["orange"]
    other[np.arange(SIZE) % 4 < 2] //= 2
    words = {"prompt": "a large red heart", "steps": 10}
    asked = easel.request(Scene("white", (Thing("heart", "red", 64, 64, 40, "large"),)), 3).model_copy(update=words)
    silent = easel.unit("canny", other, advanced_weighting=(0.0,))
    units = [(), *((silent.model_copy(update={"module": name}),) for name in ("tile_colorfix", "tile_colorfix+sharp"))]
    pictures = easel.draw([asked.model_copy(update={"control": u}) for u in units])
    hearts = [picture[..., 0] > picture[..., 2].astype(int) + 40 for picture in pictures[1:]]
    assert all(_overlap(heart, foreground(pictures[0])[0]) > 0.8 for heart in hearts)
    own, fixed, sharp = (picture.astype(np.float32) for picture in pictures)
    reference = other.astype(np.float32)

    def broad(picture: Pixels) -> Pixels:
        return cv2.GaussianBlur(picture, (0, 0), 20)

    def fine(picture: Pixels) -> Pixels:
        return picture - cv2.GaussianBlur(picture, (0, 0), 3)

    for picture in (fixed, sharp):
        assert np.abs(broad(picture) - broad(reference)).mean() < np.abs(broad(own) - broad(reference)).mean() / 4
        assert abs(np.corrcoef(fine(picture).ravel(), fine(reference).ravel())[0, 1]) < 0.1
    assert np.abs(cv2.Laplacian(sharp, -1)).mean() > 1.05 * np.abs(cv2.Laplacian(fixed, -1)).mean()
