"""A figure of 18 OpenPose key points in five clearly different poses.

Points are in units of the figure's height, (0, 0) in its middle, y down, in OpenPose order: nose,
neck, right shoulder, elbow, wrist, left shoulder, elbow, wrist, right hip, knee, ankle, left hip,
knee, ankle, right eye, left eye, right ear, left ear. "Right" is the figure's own: left in the picture.
"""

from __future__ import annotations

import math
import random

Point = tuple[float, float]
POSES = ("standing", "waving", "arms up", "arms out", "jumping")

# Angles from straight down, in radians, outwards positive: (upper arm, forearm) and (thigh, shin).
_ARMS = {
    "standing": (0.25, 0.12),
    "waving": (0.25, 0.12),
    "arms up": (2.7, 2.95),
    "arms out": (1.57, 1.57),
    "jumping": (2.2, 2.2),
}
_RAISED = (2.5, 2.9)
_LEGS = {"jumping": (0.75, 0.6)}
_LEGS_STRAIGHT = (0.06, 0.03)
_ARM, _LEG = 0.165, 0.185


def person_points(pose: str, rng: random.Random) -> tuple[Point, ...]:
    """The 18 points of a pose, joints moved by a few degrees."""
    arms, legs = _ARMS[pose], _LEGS.get(pose, _LEGS_STRAIGHT)
    right, left = arms, arms
    if pose == "waving":
        right, left = (_RAISED, arms) if rng.random() < 0.5 else (arms, _RAISED)
    drop = -0.03 if pose == "jumping" else 0.0
    neck, hips = (0.0, -0.22 + drop), 0.11 + drop
    shoulder = ((-0.115, neck[1] + 0.02), (0.115, neck[1] + 0.02))
    hip = ((-0.065, hips), (0.065, hips))
    right_arm, left_arm = _limb(shoulder[0], right, _ARM, -1, rng), _limb(shoulder[1], left, _ARM, 1, rng)
    right_leg, left_leg = _limb(hip[0], legs, _LEG, -1, rng), _limb(hip[1], legs, _LEG, 1, rng)
    head = neck[1] - 0.15
    face = ((-0.035, head - 0.02), (0.035, head - 0.02), (-0.08, head), (0.08, head))
    return ((0.0, head), neck, *right_arm, *left_arm, *right_leg, *left_leg, *face)


def free_points(rng: random.Random) -> tuple[Point, ...]:
    """The 18 points of a figure whose arms and legs are bent at random: poses that have no name."""
    return figure_points(free_angles(rng))


def free_angles(rng: random.Random) -> tuple[float, ...]:
    """Eight random angles as `figure_points` takes them."""
    found: list[float] = []
    for _ in range(2):
        upper = rng.uniform(0.15, 2.8)
        found += [upper, min(3.1, max(0.0, upper + rng.uniform(-0.7, 1.1)))]
    for _ in range(2):
        thigh = rng.uniform(0.02, 0.8)
        found += [thigh, max(0.0, thigh + rng.uniform(-0.5, 0.15))]
    return tuple(found)


def named_angles(pose: str, waving: int = 0) -> tuple[float, ...]:
    """The eight angles of a named pose; `waving`: which arm waves, 0 the right one."""
    arms, legs = _ARMS[pose], _LEGS.get(pose, _LEGS_STRAIGHT)
    right, left = arms, arms
    if pose == "waving":
        right, left = (_RAISED, arms) if waving == 0 else (arms, _RAISED)
    return (*right, *left, *legs, *legs)


def figure_points(angles: tuple[float, ...]) -> tuple[Point, ...]:
    """The 18 points of a figure from eight angles: upper arm, forearm (right, left), thigh, shin (right, left)."""
    hips = 0.11
    roots = ((-0.115, -0.2), (0.115, -0.2), (-0.065, hips), (0.065, hips))
    lengths = (_ARM, _ARM, _LEG, _LEG)
    limbs = [
        _limb(root, (angles[2 * k], angles[2 * k + 1]), lengths[k], -1 if k % 2 == 0 else 1)
        for k, root in enumerate(roots)
    ]
    head = -0.37
    face = ((-0.035, head - 0.02), (0.035, head - 0.02), (-0.08, head), (0.08, head))
    return ((0.0, head), (0.0, -0.22), *(point for limb in limbs for point in limb), *face)


def _limb(
    root: Point, angles: tuple[float, float], length: float, side: int, rng: random.Random | None = None
) -> tuple[Point, Point, Point]:
    """Root, middle and end joint of an arm or a leg, turned a little by a generator; side -1 is the picture's left."""
    joints = [root]
    for angle in angles:
        turned = angle + (rng.uniform(-0.06, 0.06) if rng else 0.0)
        x, y = joints[-1]
        joints.append((x + side * length * math.sin(turned), y + length * math.cos(turned)))
    return joints[0], joints[1], joints[2]
