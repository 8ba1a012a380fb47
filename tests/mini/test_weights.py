"""The shipped weights do what their figures say, less a margin for a small draw."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from danqing.mini.export import checkpoint, load_pipeline
from danqing.mini.figures import Question, draw, questions
from danqing.mini.judge import judge

COUNT = 16
STEPS = 14
MARGIN = 0.25
"""Of 16 pictures; two standard deviations where the true share is one half."""


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(checkpoint().with_suffix(".json").read_text("utf-8"))
    return table


@pytest.fixture(scope="module")
def drawn() -> list[tuple[NDArray[np.uint8], Question]]:
    """Pictures of held-out colours and shapes, from seeds that neither training nor the figures use."""
    asked = questions("one", COUNT, held_out=True, seed=77)
    return list(zip(draw(load_pipeline(), [q.prompt for q in asked], seed=7000, steps=STEPS), asked, strict=True))


@pytest.mark.parametrize("aspect", ["background", "colour", "shape"])
def test_held_out_prompts_come_out_as_measured(
    figures: dict[str, Any], drawn: list[tuple[NDArray[np.uint8], Question]], aspect: str
) -> None:
    right = [getattr(judge(picture, question.scene), aspect) for picture, question in drawn]
    assert np.mean(right) >= figures["held out"][aspect] - MARGIN


def test_pictures_follow_their_own_prompt_and_no_other(drawn: list[tuple[NDArray[np.uint8], Question]]) -> None:
    right = [judge(picture, question.scene).all for picture, question in drawn]
    other = [judge(picture, drawn[k - 1][1].scene).all for k, (picture, _) in enumerate(drawn)]
    assert sum(right) > sum(other) + COUNT // 4
