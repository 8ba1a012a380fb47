"""The requests that scripts make: prompts, seeds, and the styles that belong to what they make."""

from __future__ import annotations

from typing import Any

import pytest

from danqing.engine.scripts import alternative, from_file, matrix, plot
from danqing.engine.scripts.table import by_name
from danqing.errors import DanqingError
from danqing.request import GenerateRequest, Script, StyleTexts

STYLES = (StyleTexts(prompt="fine {prompt}"), StyleTexts(prompt="sharp", negative_prompt="blurry"))


def asked(name: str, given: list[Any], **fields: Any) -> tuple[GenerateRequest, dict[str, Any]]:
    args = by_name(name).named(given)
    script = Script(name=name.lower(), args=args, styles=STYLES)
    return GenerateRequest(seed=5, subseed=9, script=script, **fields), args


def test_every_prompt_of_a_matrix_has_the_styles() -> None:
    """The first part stays as it is written, blanks and all."""
    made = matrix.requests(*asked("Prompt matrix", [], prompt="a cat | hat ,|dog"))
    texts = ["a cat ", "a cat , hat ", "a cat , dog", "a cat , hat , dog"]
    assert [one.prompt for one in made] == [f"fine {text}".strip() + ", sharp" for text in texts]
    assert {one.negative_prompt for one in made} == {"blurry"}
    assert [(one.seed, one.subseed) for one in made] == [(5, 9), (5, 10), (5, 11), (5, 12)]
    first = matrix.requests(*asked("Prompt matrix", [True, True, "positive", "space"], prompt="a|b"))
    assert [(one.prompt, one.seed) for one in first] == [("fine a, sharp", 5), ("fine b a, sharp", 6)]


def test_every_line_of_a_file_has_the_styles() -> None:
    request, args = asked("Prompts from file or textbox", [False, False, "end", "x\n--prompt y --seed 7"], prompt="a")
    made = from_file.requests(request, args)
    assert [(one.prompt, one.seed) for one in made] == [("fine a x, sharp", 5), ("fine a y, sharp", 7)]
    assert made[0].script is None


def test_what_is_searched_for_stands_in_the_prompt_without_styles() -> None:
    request, args = asked("X/Y/Z plot", ["Prompt S/R", "cat,sharp"], prompt="a cat")
    made = plot.requests(request, args)
    assert [one.prompt for one in made.values()] == ["fine a cat, sharp", "fine a sharp, sharp"]


def test_the_other_prompt_of_the_alternative_has_the_styles() -> None:
    request, args = asked("img2img alternative test", ["", True, True, "b"], prompt="a", kind="img2img")
    assert alternative.changed(request, args).prompt == "fine b, sharp"


def test_an_axis_of_styles() -> None:
    """Each value is put to the prompt behind the styles that all cells have; an unknown one is refused."""
    request, args = asked("X/Y/Z plot", ["Styles", "None,ink"], prompt="a")
    assert request.script is not None
    shelf = {"ink": StyleTexts(prompt="ink", negative_prompt="photo")}
    request = request.model_copy(update={"script": request.script.model_copy(update={"shelf": shelf})})
    made = list(plot.requests(request, args).values())
    assert [one.prompt for one in made] == ["fine a, sharp", "fine a, sharp, ink"]
    assert [one.negative_prompt for one in made] == ["blurry", "blurry, photo"]
    with pytest.raises(DanqingError, match="oil"):
        plot.requests(request, {**args, "x_values": "oil"})
