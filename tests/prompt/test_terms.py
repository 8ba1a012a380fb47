"""The dictionary of artists' terms and the translation that uses it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompt.emphasis import parse
from danqing.prompt.networks import network_tags
from danqing.prompt.terms import has_chinese, matching, terms, translated


def test_dictionary_is_large_clean_and_names_nothing_twice() -> None:
    rows = terms()
    assert len([row for row in rows if row.en]) >= 1500
    assert len({row.zh for row in rows}) == len(rows)
    for row in rows:
        assert has_chinese(row.zh)
        assert row.en == row.en.strip()
        assert not has_chinese(row.en)
        assert not re.search(r"[()\[\]{}<>|]", row.en), "a term must not be read as syntax"


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("一只橙色的猫，蓝色背景", "an orange cat, blue background"),
        ("一只橙色的猫坐在窗台上", "an orange cat sitting on windowsill"),
        ("竹林中的大熊猫", "giant panda in bamboo forest"),
        ("雨中的江南水乡，石桥。水墨画", "jiangnan water town in the rain, stone bridge, ink wash painting"),
        ("一只戴着红色帽子的小猫", "a kitten wearing red hat"),
        ("站在樱花树下的白发少女", "white hair young woman standing under cherry blossom tree"),
        ("白色背景上的粉色心形", "pink heart shape on white background"),
        ("闪闪发光的星星", "glittering stars"),
        ("杰作，1girl，长发", "masterpiece, 1girl, long hair"),
        ("(汉服:1.3)，[白天:夜晚:0.5]", "(hanfu:1.3), [daytime:night:0.5]"),
        ("（汉服：１.２）、【夜晚】", "(hanfu:1.2), [night]"),
        ("月亮 AND 星空 BREAK 山|海", "moon AND starry sky BREAK mountain|sea"),
        ("魑魅的森林", "魑魅 forest"),
        ("a cat, 4k", "a cat, 4k"),
    ],
)
def test_chinese_becomes_english_and_syntax_survives(chinese: str, english: str) -> None:
    assert translated(chinese) == english


def test_names_of_networks_are_left_alone() -> None:
    text = translated("水墨画，<lora:水墨:0.8>，<hypernet:猫:1>")
    assert text == "ink wash painting, <lora:水墨:0.8>, <hypernet:猫:1>"
    assert len(network_tags(text)) == 2


@given(st.text(alphabet="猫红的在上一只()[]:1.5,，<>| lora", max_size=40))
def test_anything_is_translated_once(text: str) -> None:
    once = translated(text)
    assert translated(once) == once or "<" in text
    parse(once)


def test_weights_are_the_same_before_and_after() -> None:
    text = "(红色汉服:1.3), ((长发)), [微笑], 樱花"
    assert [piece.weight for piece in parse(translated(text))] == [piece.weight for piece in parse(text)]


def test_completion_in_both_languages() -> None:
    assert ("水墨画", "ink wash painting") in {(row.zh, row.en) for row in matching("水墨")}
    assert all("ink" in row.en for row in matching("ink w"))
    assert matching("红")[0].zh.startswith("红")
    assert matching("  ") == []
    assert len(matching("a", limit=5)) == 5
