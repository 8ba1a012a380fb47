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
    return Easel(tmp_path_factory.mktemp("easel"))


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_unseen_scenes_are_followed(easel: Easel, kind: str) -> None:
    assert control_file(kind).stat().st_size <= 5_000_000
    rows = cases(kind, COUNT)
    whole = followed(kind, rows, drawn(easel, kind, rows))
    assert whole.share >= LEAST[kind]
    assert whole.colour >= 0.85
    few = rows[:4]
    assert followed(kind, few, plain(easel, few)).share < followed(kind, few, drawn(easel, kind, few)).share


def test_weight_zero_is_no_control_to_the_last_bit(easel: Easel) -> None:
    assert all(control_mini.weightless(easel, kind, cases(kind, 1)[0]) for kind in KINDS)


def test_units_of_two_kinds_are_followed_together(easel: Easel) -> None:
    row = two_units(easel, 4)
    alone = max(int(str(row["edges %"])), int(str(row["depth %"])))
    assert int(str(row["whole %"])) > alone
