"""The shipped ControlNets of the miniature model are followed: the short version of `bench.control_mini`, the same judges."""

from __future__ import annotations

import pytest

from bench import control_mini
from bench.control_mini import Easel, cases, drawn, followed, plain, two_units
from danqing.mini.control_data import KINDS
from danqing.mini.control_nets import control_file
from danqing.mini.judge import Bools, foreground

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


def test_objects_stand_where_a_depth_map_has_them(easel: Easel) -> None:
    """Overlap over union of what stands before the background. Which of two is in front is not asked: the card says why."""
    rows = cases("depth", 6)
    pictures = drawn(easel, "depth", rows)
    overlaps = [
        _overlap(foreground(picture)[0], row.hint[..., 0] > 0) for row, picture in zip(rows, pictures, strict=True)
    ]
    assert sum(overlaps) / len(overlaps) >= 0.75
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
