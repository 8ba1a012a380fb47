"""Dynamic prompts: the grammar, the files, and the drawn prompt beside its template in the infotext."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.plugins import Reader
from danqing.request import GenerateRequest
from danqing.shipped.wildcards.engine import danqing_before_picture
from danqing.shipped.wildcards.grammar import DEPTH, Cards, drawn
from danqing.shipped.wildcards.plugin import act


@pytest.fixture
def cards(tmp_path: Path) -> Cards:
    folder = tmp_path / "wildcards"
    (folder / "animals").mkdir(parents=True)
    (folder / "colours.txt").write_text("red\n# a comment\n\nblue # not this\n", "utf-8")
    (folder / "颜色.txt").write_text("朱砂\n", "utf-8-sig")
    (folder / "animals" / "cats.txt").write_text("3::__colours__ cat\n0::dog\n", "utf-8")
    (folder / "animals" / "birds.txt").write_text("owl\n", "utf-8")
    (folder / "circle.txt").write_text("x __circle__\n", "utf-8")
    (tmp_path / "secret.txt").write_text("password\n")
    return Cards(folder)


def many(template: str, cards: Cards, count: int = 200) -> Counter[str]:
    return Counter(drawn(template, random.Random(seed), cards) for seed in range(count))


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{2$$a|b}", {"a, b", "b, a"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{0-1$$a|b}", {"", "a", "b"}),
        ("{9$$a}", {"a"}),
        ("{|very }big", {"big", "very big"}),
        ("{0::no|1::yes}", {"yes"}),
        ("__colours__", {"red", "blue"}),
        ("__颜色__", {"朱砂"}),
        ("{2$$__colours__}", {"red, blue", "blue, red"}),
        ("__animals/*__", {"red cat", "blue cat", "owl"}),
        ("{__colours__|x}", {"red", "blue", "x"}),
        ("__nothing__ stays", {"__nothing__ stays"}),
        ("__../secret__", {"__../secret__"}),
        ("{text} and {open (a:1.2) [b|c]", {"{text} and {open (a:1.2) [b|c]"}),
        ("<lora:my__lora:1>, <lora:his__lora:1>", {"<lora:my__lora:1>, <lora:his__lora:1>"}),
    ],
)
def test_the_grammar(template: str, made: set[str], cards: Cards) -> None:
    assert set(many(template, cards)) == made


def test_weights_count_and_draws_repeat(cards: Cards) -> None:
    found = many("{3::often|rarely}", cards, 1000)
    assert 650 < found["often"] < 850
    template = "{a|b|c|d} __colours__ {2$$e|f|g}"
    assert [drawn(template, random.Random(n), cards) for n in range(20)] == [
        drawn(template, random.Random(n), cards) for n in range(20)
    ]


def test_circles_end_and_floods_are_refused(cards: Cards) -> None:
    assert drawn("__circle__", random.Random(0), cards).count("x") == DEPTH
    (cards.folder / "flood.txt").write_text("__flood__ __flood__\n")
    (cards.folder / "long.txt").write_text("x" * 30000)
    with pytest.raises(DanqingError) as caught:
        drawn("__long__", random.Random(0), cards)
    assert caught.value.code == "text_too_long"


def test_each_picture_has_its_own_draw_and_keeps_the_template(cards: Cards) -> None:
    data = cards.folder.parent
    request = GenerateRequest(prompt="{a|b|c|d|e|f} star", negative_prompt="plain", seed=7)
    changes = [danqing_before_picture(request, index, data) for index in range(8)]
    prompts = [change.request.prompt for change in changes if change]
    assert len(prompts) == 8
    assert len(set(prompts)) > 2
    assert changes[0] is not None
    assert changes[0].pairs == {"Template": "{a|b|c|d|e|f} star"}
    assert danqing_before_picture(request, 0, data) == changes[0]
    same = request.model_copy(update={"plugins": {"wildcards": {"each": False}}})
    assert len({change.request.prompt for n in range(8) if (change := danqing_before_picture(same, n, data))}) == 1
    off = request.model_copy(update={"plugins": {"wildcards": {"on": False}}})
    assert danqing_before_picture(off, 0, data) is None
    assert danqing_before_picture(GenerateRequest(prompt="{plain}"), 0, data) is None


def test_the_tab_lists_files_and_tries_a_template(cards: Cards) -> None:
    html = act(Reader("zh", "ann", cards.folder.parent), {"template": "{<b>|<b>} __colours__"})
    assert "__animals/cats__" in html
    assert "抽签" in html
    assert html.count("<li>") == 6
    assert "&lt;b&gt; red" in html
    assert "<b>" not in html
