"""Human poses: key points, OpenPose's JSON, and the drawing that pose ControlNets were trained on. No torch.

Points are fractions of the canvas, (0, 0) top left. A body has OpenPose's 18 points, a hand 21, a face 70
(https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md).
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from danqing.control.plain import MOST_PIXELS, Pixels
from danqing.errors import DanqingError

Point = tuple[float, float] | None
"""x and y; None where nothing was seen."""
Points = tuple[Point, ...]

MOST_PEOPLE = 256
BODY, HAND, FACE = 18, 21, 70
STICK, DOT, FACE_DOT = 4, 4, 3
"""Pixels: half the width of a limb, radius of a joint and of a face's point."""

LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)),
    *((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
"""Pairs of joints; a limb has the colour of its place."""

FINGERS = tuple(
    (0 if joint == 0 else finger + joint, finger + joint + 1) for finger in range(0, 20, 4) for joint in range(4)
)

COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255)),
    *((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)
"""RGB of the joints."""


@dataclass(frozen=True, slots=True)
class Person:
    """One figure; () for a part that was not looked for or not seen."""

    body: Points = ()
    left_hand: Points = ()
    right_hand: Points = ()
    face: Points = ()


@dataclass(frozen=True, slots=True)
class Pose:
    """The people of a picture of `width` x `height` pixels."""

    people: tuple[Person, ...]
    width: int
    height: int


PARTS = {
    "pose_keypoints_2d": ("body", BODY),
    "hand_left_keypoints_2d": ("left_hand", HAND),
    "hand_right_keypoints_2d": ("right_hand", HAND),
    "face_keypoints_2d": ("face", FACE),
}
"""Keys of the JSON, and the most points of each."""


def to_json(pose: Pose) -> dict[str, Any]:
    """OpenPose's JSON: pixels, and 1 for what was seen; null for a part that is not there."""
    size = (pose.width, pose.height)
    people = [{key: _flat(getattr(person, part), *size) for key, (part, _) in PARTS.items()} for person in pose.people]
    return {"people": people, "canvas_width": pose.width, "canvas_height": pose.height}


def _flat(points: Points, width: int, height: int) -> list[float] | None:
    if not points:
        return None
    triples = ((point[0] * width, point[1] * height, 1.0) if point else (0.0, 0.0, 0.0) for point in points)
    return [value for triple in triples for value in triple]


def from_json(value: Mapping[str, Any]) -> Pose:
    """Read OpenPose's JSON; points may be pixels or, where all lie in 0 to 1, fractions already.

    Raises:
        DanqingError: `invalid_field`, with the place.
    """
    width, height = (_side(value.get(name), name) for name in ("canvas_width", "canvas_height"))
    if width * height > MOST_PIXELS:
        raise DanqingError("too_many_pixels", width=width, height=height, maximum=MOST_PIXELS)
    people = value.get("people")
    if not isinstance(people, list) or len(people) > MOST_PEOPLE:
        raise DanqingError("invalid_field", field="people", reason=f"a list of at most {MOST_PEOPLE}")
    return Pose(tuple(_person(one, place, width, height) for place, one in enumerate(people)), width, height)


def _side(value: Any, name: str) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= MOST_PIXELS:
        raise DanqingError("invalid_field", field=name, reason=f"1 to {MOST_PIXELS} pixels")
    return int(value)


def _person(value: Any, place: int, width: int, height: int) -> Person:
    if not isinstance(value, Mapping):
        raise DanqingError("invalid_field", field=f"people[{place}]", reason="an object")
    return Person(
        **{
            part: _points(value.get(key) or [], f"people[{place}].{key}", most, width, height)
            for key, (part, most) in PARTS.items()
        }
    )


def _points(flat: Any, field: str, most: int, width: int, height: int) -> Points:
    numbers = isinstance(flat, list) and all(isinstance(n, int | float) and math.isfinite(n) for n in flat)
    if not numbers or len(flat) % 3 or len(flat) > 3 * most:
        raise DanqingError("invalid_field", field=field, reason=f"at most {most} times x, y, confidence")
    seen = [max(flat[place], flat[place + 1]) for place in range(0, len(flat), 3) if flat[place + 2] > 0]
    fractions = bool(seen) and max(seen) <= 1
    across, down = (1, 1) if fractions else (width, height)
    return tuple(
        (flat[place] / across, flat[place + 1] / down) if flat[place + 2] > 0 else None
        for place in range(0, len(flat), 3)
    )


def draw(pose: Pose, *, body: bool = True, hands: bool = True, face: bool = True) -> Pixels:
    """The people on black, (height, width, 3) uint8 RGB."""
    canvas = np.zeros((pose.height, pose.width, 3), np.uint8)
    for person in pose.people:
        if body:
            _draw_body(canvas, person.body)
        if hands:
            _draw_hand(canvas, person.left_hand)
            _draw_hand(canvas, person.right_hand)
        if face:
            _draw_dots(canvas, person.face, FACE_DOT, [(255, 255, 255)])
    return canvas


def _draw_body(canvas: Pixels, points: Points) -> None:
    height, width = canvas.shape[:2]
    for (first, second), colour in zip(LIMBS, COLOURS, strict=False):
        ends = [points[place] for place in (first, second) if place < len(points)]
        if len(ends) < 2 or ends[0] is None or ends[1] is None:
            continue
        (x1, y1), (x2, y2) = ((_inside(x * width), _inside(y * height)) for x, y in (ends[0], ends[1]))
        middle = (int((x1 + x2) / 2), int((y1 + y2) / 2))
        axes = (int(math.hypot(x1 - x2, y1 - y2) / 2), STICK)
        outline = cv2.ellipse2Poly(middle, axes, int(math.degrees(math.atan2(y1 - y2, x1 - x2))), 0, 360, 1)
        cv2.fillConvexPoly(canvas, outline, [int(part * 0.6) for part in colour])
    _draw_dots(canvas, points, DOT, COLOURS, at_zero=True)


def _draw_hand(canvas: Pixels, points: Points) -> None:
    height, width = canvas.shape[:2]
    for place, (first, second) in enumerate(FINGERS):
        ends = [points[end] for end in (first, second) if end < len(points)]
        if len(ends) < 2 or ends[0] is None or ends[1] is None:
            continue
        pixels = [(int(_inside(x * width)), int(_inside(y * height))) for x, y in (ends[0], ends[1])]
        if min(*pixels[0], *pixels[1]) > 0:
            colour = [part * 255 for part in colorsys.hsv_to_rgb(place / len(FINGERS), 1, 1)]
            cv2.line(canvas, pixels[0], pixels[1], colour, thickness=2)
    _draw_dots(canvas, points, DOT, [(0, 0, 255)])


def _draw_dots(
    canvas: Pixels, points: Points, radius: int, colours: Sequence[tuple[int, int, int]], at_zero: bool = False
) -> None:
    height, width = canvas.shape[:2]
    for place, point in enumerate(points):
        if point is None:
            continue
        x, y = int(_inside(point[0] * width)), int(_inside(point[1] * height))
        if at_zero or (x > 0 and y > 0):
            cv2.circle(canvas, (x, y), radius, colours[place % len(colours)], thickness=-1)


def _inside(value: float) -> float:
    """Within what OpenCV's fixed-point coordinates can say."""
    return min(max(value, -16000.0), 32000.0)
