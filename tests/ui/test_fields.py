"""Whatever stands in the boxes becomes a request or a sentence."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as config
from hypothesis import strategies as st

from danqing import app as house
from danqing.errors import DanqingError
from danqing.settings import Settings
from danqing.ui.fields import ASPECTS, NAMES, REAL, TEXTS, WHOLE, aspect_size, request_of

LIMITS = Settings(house.ROWS)
GOOD: dict[str, Any] = {
    **dict.fromkeys(WHOLE + REAL, 0),
    **dict.fromkeys(TEXTS, ""),
    "tab": "txt2img",
    "prompt": "a star",
    "sampler": "Euler",
    "scheduler": "Automatic",
    "steps": 20,
    "width": 128,
    "height": 128,
    "seed": "-1",
    "batch_size": 1,
    "n_iter": 1,
    "clip_skip": 1,
    "cfg_scale": 7,
    "extras_resize": 2,
    "extras_width": 64,
    "extras_height": 64,
    "hires_scale": 2,
    "hires_upscaler": "Latent",
}


def refused(**values: Any) -> DanqingError:
    with pytest.raises(DanqingError) as caught:
        request_of({**GOOD, **values}, LIMITS)
    return caught.value


def test_good_boxes() -> None:
    request = request_of({**GOOD, "steps": 20.0, "seed": " 9007199254740993 ", "cfg_scale": "4.5"}, LIMITS)
    assert (request.steps, request.seed, request.cfg_scale) == (20, 9007199254740993, 4.5)
    assert request_of({**GOOD, "seed": ""}, LIMITS).seed == -1
    assert request_of({**GOOD, "seed": None}, LIMITS).seed == -1


@pytest.mark.parametrize(
    ("box", "value", "code"),
    [
        ("steps", None, "not_a_number"),
        ("steps", "", "not_a_number"),
        ("steps", 0, "out_of_range"),
        ("steps", 10**9, "out_of_range"),
        ("steps", 2.5, "not_whole"),
        ("width", -8, "out_of_range"),
        ("width", 10**6, "out_of_range"),
        ("width", math.nan, "not_a_number"),
        ("height", math.inf, "not_a_number"),
        ("height", "NaN", "not_a_number"),
        ("cfg_scale", 1e9, "out_of_range"),
        ("cfg_scale", -1e9, "out_of_range"),
        ("cfg_scale", [7], "not_a_number"),
        ("cfg_scale", True, "not_a_number"),
        ("seed", "ten", "not_a_number"),
        ("seed", "9" * 5000, "not_a_number"),
        ("seed", str(2**63), "out_of_range"),
        ("n_iter", 10**30, "out_of_range"),
        ("batch_size", {"a": 1}, "not_a_number"),
        ("prompt", "x" * 10**6, "text_too_long"),
        ("prompt", "\ud800", "broken_text"),
        ("negative_prompt", "\0", "broken_text"),
        ("prompt", 5, "invalid_field"),
        ("sampler", "Nobody", "unknown_sampler"),
        ("scheduler", "Never", "unknown_scheduler"),
        ("sampler", None, "unknown_sampler"),
    ],
)
def test_bad_boxes_are_named(box: str, value: Any, code: str) -> None:
    error = refused(**{box: value})
    assert error.code == code
    assert error.params.get("field", box) == box
    assert all(error.text(language) for language in ("en", "zh"))


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.just("1e400")
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, ANYTHING)))
@config(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_anything_is_a_request_or_a_sentence(values: dict[str, Any]) -> None:
    """A refusal with a sentence is an answer; any other exception fails the test."""
    with contextlib.suppress(DanqingError):
        request = request_of({**GOOD, **values}, LIMITS)
        assert 1 <= request.steps <= LIMITS.get_int("limit_steps")


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("native", [128, 512, 1024])
def test_aspects_keep_the_area(aspect: str, native: int) -> None:
    width, height = aspect_size(aspect, native)
    across, down = map(int, aspect.split(":"))
    assert width % 8 == height % 8 == 0
    assert width * height == pytest.approx(native * native, rel=0.13)
    assert width / height == pytest.approx(across / down, rel=0.13)
