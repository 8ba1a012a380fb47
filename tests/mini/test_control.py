"""Control data, its judges and its training: exact maps, judges that judge, a net that resumes and can be read again.

How well the shipped nets follow is measured by `bench.control_mini`; its short version is in `tests/engine`.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from danqing.mini import train_control as training
from danqing.mini.control_data import KINDS, Case, case, depth_map, key_points, overlapping
from danqing.mini.control_judge import FOLLOWED, Followed, edge_overlap
from danqing.mini.control_nets import control_file, load_control, new_control, samples_of
from danqing.mini.drawing import render, thing_mask
from danqing.mini.figure_fit import fitted_figure
from danqing.mini.scenes import SIZE, Scene, is_held_out, sample_scene

COUNT = 16


def cases(kind: str) -> list[Case]:
    return [
        case(kind, 10**9 + seed, held_out=kind != "pose", exact=True) for seed in range(COUNT if kind != "pose" else 8)
    ]


def mean(found: list[Followed], field: str) -> float:
    return float(np.mean([getattr(one, field) for one in found]))


@pytest.mark.parametrize(("kind", "chance"), [("canny", 0.2), ("depth", 0.3), ("pose", 0.6)])
def test_judges_know_true_pictures_from_shuffled_ones(kind: str, chance: float) -> None:
    followed, rows = FOLLOWED[kind], cases(kind)
    true = [followed(one.picture, one.scene, one.hint) for one in rows]
    assert mean(true, "share") >= 0.98
    assert mean(true, "colour") >= 0.98
    shuffled = [followed(rows[k - 1].picture, one.scene, one.hint) for k, one in enumerate(rows)]
    assert mean(shuffled, "share") <= chance
    assert mean(shuffled, "colour") <= 0.35


def test_edges_two_pixels_off_are_met_and_three_are_not() -> None:
    line = np.zeros((SIZE, SIZE), bool)
    line[40, 20:100] = True
    assert edge_overlap(line, np.roll(line, 2, 0)) == 1
    assert edge_overlap(line, np.roll(line, 3, 0)) == 0
    assert edge_overlap(line, line | np.roll(line, 20, 0)) == pytest.approx(1 / 2)
    assert edge_overlap(line, np.zeros_like(line)) == 0


def test_the_nearer_object_hides_the_farther_whatever_their_order() -> None:
    rng = random.Random(5)
    first_in_front = 0
    for _ in range(12):
        scene = overlapping(rng, held_out=True)
        assert all(is_held_out(thing.colour, thing.kind) for thing in scene.things)
        shared = np.minimum(*(thing_mask(thing) for thing in scene.things)) > 0.99
        near = max(scene.things, key=lambda thing: thing.near)
        first_in_front += near is scene.things[0]
        assert np.abs(depth_map(scene)[shared] / 255 - near.near).max() < 0.01
        alone = render(Scene(scene.background, (near,)), random.Random(1))
        assert np.abs(render(scene, random.Random(1)).astype(int) - alone)[shared].max() <= 10
    assert 2 <= first_in_front <= 10


def test_a_swapped_depth_order_is_seen() -> None:
    one = case("depth", 10**9, held_out=True, exact=True)
    a, b = one.scene.things
    swapped = Scene(one.scene.background, (replace(a, near=b.near), replace(b, near=a.near)), one.scene.relation)
    assert FOLLOWED["depth"](one.picture, one.scene, one.hint).share == 1
    assert FOLLOWED["depth"](one.picture, swapped, one.hint).share == 0


def test_key_points_lie_on_the_figure_and_the_search_finds_them() -> None:
    for seed in range(4):
        scene = sample_scene("people", random.Random(seed))
        picture = render(scene, random.Random(seed))
        points = np.array(key_points(scene.things[0]))
        cover = thing_mask(scene.things[0])
        assert all(cover[int(y), int(x)] > 0 for x, y in points[:14])
        figure = fitted_figure(picture)
        assert figure is not None
        assert np.linalg.norm(figure.joints() - points, axis=1).max() <= 4
    assert fitted_figure(render(Scene("pink"), random.Random(0))) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_its_seeds(kind: str) -> None:
    a, b, other = case(kind, 7), case(kind, 7), case(kind, 8)
    assert a.hint.shape == a.picture.shape == (SIZE, SIZE, 3)
    assert (a.hint == b.hint).all()
    assert (a.picture == b.picture).all()
    assert not (a.hint == other.hint).all()


def test_training_saves_resumes_and_writes_a_file_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "FRESH", 1)
    checkpoint, second = tmp_path / "control-pose.pt", 1 / 60
    training.train_control("pose", tmp_path, second, resume=False)
    before = torch.load(checkpoint, weights_only=True)
    training.train_control("pose", tmp_path, 2 * second, resume=True)
    after = torch.load(checkpoint, weights_only=True)
    assert 0 < before["samples"] < after["samples"]
    assert before["seed"] < after["seed"]
    assert before["flat"]["steps"] < after["flat"]["steps"]
    assert not before["flat"]["flat"].equal(after["flat"]["flat"])
    path = control_file("pose", tmp_path)
    assert samples_of(path) == after["samples"]
    assert path.stat().st_size < 5_000_000
    net = load_control(path)
    down, middle = net(
        torch.zeros(1, 4, 16, 16), 500, torch.zeros(1, 77, 64), torch.zeros(1, 3, SIZE, SIZE), return_dict=False
    )
    fresh = new_control()
    assert [row.shape[1] for row in down] == [64] * 7 + [128] * 5
    assert middle.shape == (1, 128, 2, 2)
    assert {name: row.shape for name, row in net.named_parameters()} == {
        name: row.shape for name, row in fresh.named_parameters()
    }
