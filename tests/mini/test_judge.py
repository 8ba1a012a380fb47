"""The judge is a judge: nearly always right on true pictures, at chance on pictures of other captions."""

from __future__ import annotations

import random

import pytest

from danqing.mini.drawing import render
from danqing.mini.judge import Verdict, colour_name, judge, look, pose_of
from danqing.mini.scenes import COLOURS, SIZE, STAGES, Scene, place_thing, sample_scene

COUNT = 60


def _scenes(stage: str) -> list[Scene]:
    rng = random.Random(10**9)
    return [sample_scene(stage, rng, held_out=stage in ("one", "places", "pairs")) for _ in range(COUNT)]


def _share(verdicts: list[Verdict], aspect: str) -> float:
    return sum(getattr(v, aspect) for v in verdicts) / len(verdicts)


@pytest.mark.parametrize("stage", STAGES)
def test_true_pictures_are_right_and_shuffled_ones_are_not(stage: str) -> None:
    scenes, rng = _scenes(stage), random.Random(0)
    pictures = [render(scene, rng) for scene in scenes]
    right = [judge(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    assert _share(right, "all") >= (0.95 if stage == "things" else 0.99)
    assert _share(right, "background") == 1
    shuffled = [judge(pictures[k - 1], scene) for k, scene in enumerate(scenes)]
    assert _share(shuffled, "all") <= 0.05
    assert _share(shuffled, "background") <= 0.25
    assert _share(shuffled, "colour") <= 0.3


def test_shapes_and_places_of_shuffled_pictures_are_at_chance() -> None:
    scenes, rng = _scenes("places"), random.Random(0)
    pictures = [render(scene, rng) for scene in scenes]
    shuffled = [judge(pictures[k - 1], scene) for k, scene in enumerate(scenes)]
    assert _share(shuffled, "shape") <= 0.3
    assert _share(shuffled, "place") <= 0.4


def test_swapped_pairs_are_wrong() -> None:
    rng = random.Random(3)
    scene = sample_scene("pairs", rng)
    swapped = Scene(scene.background, scene.things[::-1], scene.relation)
    picture = render(scene, rng)
    assert judge(picture, scene).colour
    assert not judge(picture, swapped).colour


def test_an_empty_picture_shows_nothing() -> None:
    picture = render(Scene("pink"), random.Random(0))
    assert look(picture).colour == ""
    assert look(picture).shape == ""
    assert pose_of(picture) == ""


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_is_known_and_neighbours_are_told_apart(colour: str) -> None:
    assert colour_name(COLOURS[colour]) == colour
    background = "white" if colour != "white" else "black"
    thing = place_thing("circle", colour, random.Random(1), "small", "top left")
    seen = look(render(Scene(background, (thing,)), random.Random(1)))
    assert (seen.colour, seen.shape) == (colour, "circle")
    assert seen.x < SIZE / 3
    assert seen.y < SIZE / 3
