"""What the miniature ControlNets learn from: scenes and the maps that say where things are.

Edges are Canny's on the drawn picture, depth is the objects' own (white is near), a pose is the figure's key points in
OpenPose's drawing. Everything is a function of a seeded generator.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from danqing.control import plain, pose
from danqing.imaging.control_maps import STRETCH, fitted
from danqing.mini.drawing import FIGURE, render, thing_mask
from danqing.mini.poses import free_points
from danqing.mini.scenes import (
    SIZE,
    Scene,
    Thing,
    background_beside,
    mixed_stage,
    pairs,
    sample_scene,
)

Pixels = NDArray[np.uint8]
KINDS = ("canny", "depth", "pose")

CANNY_MIX, DEPTH_MIX = (3, 3, 2, 1.5, 1.5), (1, 1, 0, 1, 1)
"""Weights of the stages among the scenes that are not made for the control."""

ANYWHERE, OVERLAPPING, FREE = 0.4, 0.9, 0.7
"""Share of objects in places without a name among the edges' scenes, of overlapping pairs, of poses without a name."""

LEAST_SHARED, LEAST_OWN = 90, 250
"""Pixels that two overlapping objects share, and that each has for itself, at least."""

CANVASES = (128, 192, 256, 384, 512)
"""Sides at which a pose is drawn before it is brought to the picture's size: detectors work at 512, editors at any."""


@dataclass(frozen=True)
class Case:
    """A scene, its picture and its map, both (SIZE, SIZE, 3) uint8."""

    scene: Scene
    picture: Pixels
    hint: Pixels


def case(kind: str, seed: int, held_out: bool = False, exact: bool = False) -> Case:
    """The case of a seed; `exact` leaves out the play of thresholds, blur and canvas that training wants."""
    rng = random.Random(seed)
    scene = control_scene(kind, rng, held_out)
    picture = render(scene, rng)
    return Case(scene, picture, hint_of(kind, scene, picture, None if exact else rng))


def control_scene(kind: str, rng: random.Random, held_out: bool = False) -> Scene:
    """A scene for one kind of control; `held_out` draws shapes from the pairs that training never shows."""
    if kind == "canny":
        if held_out or rng.random() < ANYWHERE:
            return anywhere(rng, held_out)
        return sample_scene(mixed_stage(CANNY_MIX, rng), rng, held_out)
    if kind == "pose":
        return free_person(rng) if rng.random() < FREE else sample_scene("people", rng)
    if held_out or rng.random() < OVERLAPPING:
        return overlapping(rng, held_out)
    scene = sample_scene(mixed_stage(DEPTH_MIX, rng), rng, held_out)
    return replace(scene, things=tuple(replace(thing, near=rng.uniform(0.5, 1)) for thing in scene.things))


def anywhere(rng: random.Random, held_out: bool = False) -> Scene:
    """A shape of any size at any place: the words name neither, only the map does."""
    colour, kind = rng.choice(pairs(held_out))
    radius = rng.uniform(18, 44)
    x, y = (rng.uniform(1.16 * radius + 4, SIZE - 1.16 * radius - 4) for _ in range(2))
    return Scene(background_beside({colour}, rng), (Thing(kind, colour, x, y, radius, place=""),))


def overlapping(rng: random.Random, held_out: bool = False) -> Scene:
    """Two shapes of different colours, one partly before the other; which is nearer has nothing to do with their order."""
    while True:
        first, second = rng.sample(pairs(held_out), 2)
        if first[0] == second[0]:
            continue
        relation = rng.choice(("left", "left", "above"))
        apart = rng.uniform(34, 50)
        near = [rng.uniform(0.4, 0.6), rng.uniform(0.75, 1.0)]
        rng.shuffle(near)
        things = tuple(
            _beside(pair, relation, sign * apart / 2, value, rng)
            for pair, sign, value in zip((first, second), (-1, 1), near, strict=True)
        )
        masks = [thing_mask(thing) > 0.5 for thing in things]
        shared = masks[0] & masks[1]
        if shared.sum() >= LEAST_SHARED and all((mask & ~shared).sum() >= LEAST_OWN for mask in masks):
            return Scene(background_beside({first[0], second[0]}, rng), things, relation)


def _beside(pair: tuple[str, str], relation: str, offset: float, near: float, rng: random.Random) -> Thing:
    along, across = SIZE / 2 + offset, SIZE / 2 + rng.uniform(-6, 6)
    x, y = (along, across) if relation == "left" else (across, along)
    return Thing(pair[1], pair[0], x, y, rng.uniform(27, 34), near=near)


def free_person(rng: random.Random) -> Scene:
    """A figure in a pose without a name, now and then smaller and off the middle; whole in the picture."""
    while True:
        scene = sample_scene("people", rng)
        radius = rng.uniform(40, 53)
        x, y = SIZE / 2 + rng.uniform(-10, 10), SIZE / 2 + rng.uniform(-6, 6)
        thing = replace(scene.things[0], x=x, y=y, radius=radius, pose="", points=free_points(rng))
        if all(5 <= value <= SIZE - 5 for point in key_points(thing) for value in point):
            return replace(scene, things=(thing,))


def key_points(thing: Thing) -> list[tuple[float, float]]:
    """A figure's 18 OpenPose points in pixels."""
    height = FIGURE * thing.radius
    return [(thing.x + x * height, thing.y + y * height) for x, y in thing.points]


def hint_of(kind: str, scene: Scene, picture: Pixels, rng: random.Random | None = None) -> Pixels:
    """The map of a scene, (SIZE, SIZE, 3) uint8; a generator plays with what detectors differ in."""
    if kind == "canny":
        low, high = (rng.uniform(50, 110), rng.uniform(120, 210)) if rng else (100, 200)
        return np.asarray(plain.canny(picture, low, high))
    if kind == "depth":
        return depth_map(scene, rng.uniform(0, 0.25) if rng else 0.0, rng.choice((0, 0, 0.7, 1.5)) if rng else 0)
    return pose_map(scene, rng.choice(CANVASES) if rng else 512)


def depth_map(scene: Scene, behind: float = 0.0, blur: float = 0.0) -> Pixels:
    """Nearness as grey, white is near: (SIZE, SIZE, 3) uint8. `behind`: the background's; `blur`: Gaussian, in pixels."""
    depth = np.full((SIZE, SIZE), behind, np.float32)
    for thing in sorted(scene.things, key=lambda thing: thing.near):
        cover = thing_mask(thing)
        depth = depth * (1 - cover) + thing.near * cover
    if blur:
        depth = cv2.GaussianBlur(depth, (0, 0), blur)
    return np.repeat((depth * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


def contested(scene: Scene, cell: int = 8) -> NDArray[np.float32]:
    """Share of every `cell`x`cell` square that more than one object lies on, 0 to 1: float32 (SIZE / cell, SIZE / cell).

    Only a depth map says what belongs there.
    """
    side = SIZE // cell
    shared = sum((thing_mask(thing) for thing in scene.things), np.zeros((SIZE, SIZE), np.float32)) - 1
    return np.asarray(shared.clip(0, 1).reshape(side, cell, side, cell).mean((1, 3)), np.float32)


def pose_map(scene: Scene, side: int = 512) -> Pixels:
    """The figures' key points in OpenPose's drawing, made at `side` pixels and brought to the picture's: uint8."""
    people = tuple(
        pose.Person(tuple((x / SIZE, y / SIZE) for x, y in key_points(thing))) for thing in scene.things if thing.points
    )
    return np.asarray(fitted(pose.draw(pose.Pose(people, side, side)), STRETCH, SIZE, SIZE))
