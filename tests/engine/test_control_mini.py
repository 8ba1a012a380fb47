"""The shipped ControlNets of the miniature model are followed: the short version of `bench.control_mini`, the same judges."""

from __future__ import annotations

import pytest

from bench import control_mini
from bench.control_mini import Easel, cases, drawn, followed, plain, two_units
from danqing.mini.control_data import KINDS
from danqing.mini.control_nets import control_file

COUNT = 10
LEAST = {"canny": 0.6, "depth": 0.9, "pose": 0.8}
"""Shares that must be followed; 85 of 100 colours."""


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    return Easel(tmp_path_factory.mktemp("easel"), steps=10)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_unseen_scenes_are_followed(easel: Easel, kind: str) -> None:
    assert control_file(kind).stat().st_size <= 5_000_000
    rows = cases(kind, COUNT)
    pictures = drawn(easel, kind, rows)
    whole = followed(kind, rows, pictures)
    assert whole.share >= LEAST[kind]
    assert whole.colour >= 0.85
    few = rows[:3]
    assert followed(kind, few, plain(easel, few)).share < followed(kind, few, pictures[:3]).share


def test_weight_zero_is_no_control_to_the_last_bit(easel: Easel) -> None:
    assert control_mini.weightless(easel, "canny", cases("canny", 1)[0])


def test_units_of_two_kinds_are_followed_together(easel: Easel) -> None:
    row = two_units(easel, 2)
    alone = max(int(str(row["edges %"])), int(str(row["depth %"])))
    assert int(str(row["whole %"])) > alone
