"""Poses: OpenPose's JSON in and out, and what is drawn where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from danqing import torchvision_shim as torchvision_shim  # before controlnet_aux
from danqing.control import pose
from danqing.control.pose import Person, Pose
from danqing.errors import DanqingError


def standing() -> Pose:
    """One figure: neck, right shoulder and elbow; a hand; a face of two points."""
    body = (None, (0.5, 0.25), (0.25, 0.25), (0.25, 0.5), *(None,) * 14)
    hand = tuple((0.5 + place / 100, 0.75) for place in range(21))
    return Pose((Person(body, (), hand, ((0.75, 0.1), None)),), 200, 100)


def test_there_and_back() -> None:
    value = pose.to_json(standing())
    assert value["canvas_width"] == 200
    assert value["people"][0]["pose_keypoints_2d"][3:6] == [100, 25, 1]
    assert value["people"][0]["pose_keypoints_2d"][:3] == [0, 0, 0]
    assert value["people"][0]["hand_left_keypoints_2d"] is None
    again = pose.from_json(value)
    assert again.people[0].body == standing().people[0].body
    assert np.allclose(again.people[0].right_hand, standing().people[0].right_hand)  # type: ignore[arg-type]
    assert again.people[0].face == standing().people[0].face


def test_points_may_be_fractions() -> None:
    value = {"canvas_width": 200, "canvas_height": 100, "people": [{"pose_keypoints_2d": [0.5, 0.25, 1, 0, 0, 0]}]}
    assert pose.from_json(value).people[0].body == ((0.5, 0.25), None)


def test_joints_and_limbs_have_their_colours() -> None:
    canvas = pose.draw(standing())
    assert canvas.shape == (100, 200, 3)
    assert canvas[25, 100].tolist() == list(pose.COLOURS[1])
    assert canvas[25, 50].tolist() == list(pose.COLOURS[2])
    assert canvas[25, 75].tolist() == [int(part * 0.6) for part in pose.COLOURS[0]]
    assert canvas[37, 50].tolist() == [int(part * 0.6) for part in pose.COLOURS[2]]
    assert canvas[10, 150].tolist() == [255, 255, 255]
    assert canvas[75, 120].tolist() == [0, 0, 255]


def test_parts_can_be_left_out() -> None:
    drawn = {
        part: pose.draw(standing(), **{name: name == part for name in ("body", "hands", "face")})
        for part in ("body", "hands", "face")
    }
    assert sum(canvas.astype(int) for canvas in drawn.values()).max() <= 255
    assert all(canvas.any() for canvas in drawn.values())


def test_as_controlnet_aux_draws() -> None:
    from controlnet_aux import open_pose as aux

    random = np.random.default_rng(5)
    body = [aux.Keypoint(*random.uniform(0.1, 0.9, 2)) if place % 5 else None for place in range(18)]
    face = [aux.Keypoint(*random.uniform(0.1, 0.9, 2)) for _ in range(70)]
    theirs = aux.draw_poses(
        [aux.PoseResult(aux.BodyResult(body, 1.0, 18), None, None, face)], 128, 192, draw_hand=False
    )
    own = Person(
        tuple((point.x, point.y) if point else None for point in body), (), (), tuple((p.x, p.y) for p in face)
    )
    assert (pose.draw(Pose((own,), 192, 128), hands=False) == theirs).all()


@pytest.mark.parametrize(
    "people",
    [
        [{"pose_keypoints_2d": [1, 2]}],
        [{"pose_keypoints_2d": [1, 2, 1] * 19}],
        [{"pose_keypoints_2d": ["a", 2, 1]}],
        [{"pose_keypoints_2d": [float("nan"), 2, 1]}],
        [{"pose_keypoints_2d": {"x": 1}}],
        ["somebody"],
        "somebody",
        [{}] * 257,
    ],
)
def test_broken_people_are_refused(people: Any) -> None:
    with pytest.raises(DanqingError) as caught:
        pose.from_json({"people": people, "canvas_width": 64, "canvas_height": 64})
    assert caught.value.code == "invalid_field"
    assert "people" in str(caught.value)


@pytest.mark.parametrize("width", [0, -1, None, "64", True, 10**9, float("nan")])
def test_impossible_canvases_are_refused(width: Any) -> None:
    with pytest.raises(DanqingError):
        pose.from_json({"people": [], "canvas_width": width, "canvas_height": 64})


def test_a_canvas_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(DanqingError) as caught:
        pose.from_json({"people": [], "canvas_width": 2**13, "canvas_height": 2**12})
    assert caught.value.code == "too_many_pixels"


def test_points_far_outside_do_no_harm() -> None:
    far = [1e30, -1e30, 1, 5, 5, 1, -1e300, 3, 1]
    value = {
        "canvas_width": 64,
        "canvas_height": 64,
        "people": [{"pose_keypoints_2d": far, "hand_left_keypoints_2d": far, "face_keypoints_2d": far}],
    }
    assert pose.draw(pose.from_json(value)).shape == (64, 64, 3)
