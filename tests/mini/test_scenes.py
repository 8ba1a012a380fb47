"""Scenes, captions and words: what training is shown, and what it is never shown."""

from __future__ import annotations

import random

import numpy as np
import pytest

from danqing.mini.captions import ZH_COLOURS, ZH_POSES, caption
from danqing.mini.drawing import FIGURE, render
from danqing.mini.nets import EOS, TOKENS
from danqing.mini.poses import POSES
from danqing.mini.scenes import COLOURS, SHAPES, SIZE, STAGES, is_held_out, pairs, sample_scene
from danqing.mini.words import END, Words, clip_tokenizer


def test_training_never_shows_a_held_out_pair() -> None:
    rng = random.Random(0)
    for stage in STAGES:
        for _ in range(300):
            assert not any(is_held_out(t.colour, t.kind) for t in sample_scene(stage, rng).things)


def test_every_colour_and_every_shape_has_a_held_out_pair() -> None:
    held_out = pairs(True)
    assert {colour for colour, _ in held_out} == set(COLOURS)
    assert {shape for _, shape in held_out} == set(SHAPES)
    assert len(held_out) + len(pairs(False)) == len(COLOURS) * len(SHAPES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_scene_is_a_function_of_its_seed(stage: str) -> None:
    first, second = (sample_scene(stage, random.Random(42)) for _ in range(2))
    assert first == second
    drawn = [render(scene, random.Random(1)) for scene in (first, second)]
    assert drawn[0].shape == (SIZE, SIZE, 3)
    assert np.array_equal(drawn[0], drawn[1])


def test_objects_stay_inside_and_never_have_the_background_colour() -> None:
    rng = random.Random(4)
    for stage in STAGES:
        for _ in range(100):
            scene = sample_scene(stage, rng)
            for thing in scene.things:
                assert thing.colour != scene.background
                if thing.kind != "person":
                    assert thing.radius < thing.x < SIZE - thing.radius
                    assert thing.radius < thing.y < SIZE - thing.radius


def test_key_points_lie_inside_the_picture_and_tell_poses_apart() -> None:
    wrists = {}
    for seed in range(60):
        (thing,) = sample_scene("people", random.Random(seed)).things
        height = FIGURE * thing.radius
        points = [(thing.x + x * height, thing.y + y * height) for x, y in thing.points]
        assert len(points) == 18
        assert all(0 <= value <= SIZE for point in points for value in point)
        wrists[thing.pose] = tuple(round(value, 1) for k in (4, 7, 10) for value in thing.points[k])
    assert set(wrists) == set(POSES)
    assert len(set(wrists.values())) == len(POSES)


def test_full_captions_say_everything_in_both_languages() -> None:
    rng = random.Random(7)
    for _ in range(100):
        scene = sample_scene("pairs", rng)
        english, chinese = (caption(scene, rng, 0.0, language) for language in (0.0, 1.0))
        for colour in (scene.background, *(thing.colour for thing in scene.things)):
            assert colour in english
            assert ZH_COLOURS[colour] in chinese
        person = sample_scene("people", rng)
        assert ZH_POSES[person.things[0].pose] in caption(person, rng, 0.0, 1.0)


def test_dropped_captions_leave_things_out() -> None:
    rng = random.Random(8)
    scenes = [sample_scene("one", rng) for _ in range(100)]
    assert sum("background" not in caption(scene, rng, 0.5, 0.0) for scene in scenes) > 25


def test_rows_are_clips_own_ids_in_compact() -> None:
    words = Words.gather(captions_each=40)
    text = "a red circle on a white background"
    row = words.row(text)
    theirs = clip_tokenizer()(text, padding="max_length", max_length=TOKENS).input_ids
    assert len(row) == len(theirs) == TOKENS
    assert [words.used[k - 1] for k in row] == theirs
    assert row[-1] == END
    assert theirs[-1] == EOS
    assert 0 in words.row("a zebra")


def test_chinese_captions_fit_into_one_chunk() -> None:
    rng, tokenizer = random.Random(9), clip_tokenizer()
    texts = [caption(sample_scene("pairs", rng), rng, 0.0, 1.0) for _ in range(300)]
    assert max(len(row) for row in tokenizer(texts).input_ids) <= TOKENS
