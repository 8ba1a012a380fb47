"""The prompt language against what the WebUI made of the same prompts (recorded in `prompts.json`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompt.chunks import CONTENT, EMPTY, LENGTH, Cutter, chunks_of, paired, token_count
from danqing.prompt.emphasis import Emphasis, parse, plain
from danqing.prompt.networks import network_tags, without_tags
from danqing.prompt.parts import split_parts
from danqing.prompt.schedule import Timeline, scheduled
from danqing.prompt.tokenizer import BOS, COMMA, EOS, default_tokenizer, tokenizer_of
from danqing.prompt.triggers import Triggers

RECORDED = json.loads((Path(__file__).parent / "prompts.json").read_text("utf-8"))
TOKENIZER = default_tokenizer()
BRACKETS = "()[]:|\\.0123456789ab BREAKND-+<>=,"


@dataclass(frozen=True)
class Word:
    """An embedding without vectors."""

    name: str
    length: int

    def of(self, kind: str) -> Any:
        raise NotImplementedError(kind)


WORDS = Triggers(TOKENIZER, [Word("tiemb", 3), Word("tiemb-long one", 5), Word("Big", 30)])


def filled(values: list[Any], padding: Any) -> list[Any]:
    """The recorded list with its cut-off padding."""
    return values + [padding] * (LENGTH - len(values))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["prompt"][:30]))
def test_every_stage_is_the_recorded_one(case: dict[str, Any]) -> None:
    assert {tag.kind: [[*tag.positional]] for tag in network_tags(case["prompt"])} == case["extra_networks"]
    text = without_tags(case["prompt"])
    assert text == case["after_extra_networks"]
    for key, timeline in (
        ("schedule_20", Timeline(20)),
        ("schedule_20_old", Timeline(20, old=True)),
        ("schedule_20_hires10", Timeline(10, base_steps=20)),
    ):
        assert [[entry.end, entry.text] for entry in scheduled(text, timeline)] == case[key]
    (indexes,), flat = case["multicond"]["indexes"], case["multicond"]["flat"]
    assert [[part.text, part.weight] for part in split_parts(text)] == [[flat[i], weight] for i, weight in indexes]


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["prompt"][:30]))
def test_pieces_chunks_and_count_are_the_recorded_ones(case: dict[str, Any]) -> None:
    text = case["after_extra_networks"]
    assert [["BREAK", -1] if p.breaks else [p.text, p.weight] for p in parse(text)] == case["attention"]
    cutter = Cutter(TOKENIZER, WORDS)
    assert cutter.count(text) == case["token_count"]
    chunks = cutter.cut(text)
    assert [list(c.tokens) for c in chunks] == [filled(c["tokens"], EOS) for c in case["chunks"]]
    assert [list(c.weights) for c in chunks] == [filled(c["multipliers"], 1.0) for c in case["chunks"]]
    placed = [[[p.at - 1, p.vectors.name] for p in c.vectors] for c in chunks]
    assert placed == [c["fixes"] for c in case["chunks"]]


def test_words_and_commas_are_clip_s_tokens() -> None:
    assert TOKENIZER.encode("A Cat,") == [320, 2368, COMMA]
    assert TOKENIZER.encode("红色的圆")
    assert TOKENIZER.encode("🐱")
    assert TOKENIZER.encode("  \n ") == []


def test_each_tokenizer_knows_its_own_marks_and_entities() -> None:
    g = tokenizer_of("open_clip_g")
    assert TOKENIZER.encode("a<|endoftext|>b") == [320, EOS, *TOKENIZER.encode("b")]
    assert g.encode("a<end_of_text>b") == [320, EOS, *g.encode("b")]
    assert EOS not in g.encode("<|endoftext|>")
    assert g.encode("a &amp;amp; <b") == g.encode("a & <b") != TOKENIZER.encode("a &amp;amp; <b")
    assert g.encode("A Cat,") == TOKENIZER.encode("A Cat,")


@pytest.mark.parametrize(
    ("prompt", "counted"),
    [
        ("", (0, 75)),
        ("a cat", (2, 75)),
        ("a " * 75, (75, 75)),
        ("a " * 76, (76, 150)),
        ("a BREAK", (75, 75)),
        ("a BREAK b", (76, 150)),
    ],
)
def test_token_count(prompt: str, counted: tuple[int, int]) -> None:
    assert token_count(prompt, TOKENIZER) == counted


def test_a_comma_near_the_end_is_where_the_chunk_is_cut() -> None:
    chunks = chunks_of("a " * 70 + ", " + "b " * 10, TOKENIZER)
    assert list(chunks[0].tokens[:73]) == [BOS, *[320] * 70, COMMA, EOS]
    far = chunks_of("a " * 40 + ", " + "b " * 50, TOKENIZER)
    assert EOS not in far[0].tokens[1:76]
    never = Cutter(TOKENIZER, backtrack=0).cut("a " * 70 + ", " + "b " * 10)
    assert EOS not in never[0].tokens[1:76]


def test_an_embedding_is_never_split() -> None:
    first, second = Cutter(TOKENIZER, WORDS).cut("a " * 73 + "(tiemb:1.3) b")
    assert (first.tokens[73:76], first.vectors) == ((320, EOS, EOS), ())
    assert [(placed.at, placed.vectors.name) for placed in second.vectors] == [(1, "tiemb")]
    assert second.weights[:5] == (1.0, 1.3, 1.3, 1.3, 1.0)


def test_the_longest_name_is_found_first_whatever_its_case() -> None:
    (chunk,) = Cutter(TOKENIZER, WORDS).cut("a TIEMB-Long One, tiemb, big")
    assert [(p.at, p.vectors.name) for p in chunk.vectors] == [(2, "tiemb-long one"), (8, "tiemb"), (12, "Big")]


def test_what_follows_a_comma_moves_with_its_embedding() -> None:
    first, second = Cutter(TOKENIZER, WORDS).cut("a " * 65 + ", tiemb " + "b " * 10)
    assert first.vectors == ()
    assert [(placed.at, placed.vectors.name) for placed in second.vectors] == [(1, "tiemb")]
    assert second.tokens[1:5] == (0, 0, 0, TOKENIZER.encode("b")[0])


def test_emphasis_may_be_off() -> None:
    def cut(emphasis: Emphasis) -> Any:
        return Cutter(TOKENIZER, emphasis=emphasis).cut("a (cat:1.5) BREAK b")

    assert 1.5 in cut(Emphasis.ORIGINAL)[0].weights
    assert [set(chunk.weights) for chunk in cut(Emphasis.IGNORE)] == [{1.0}, {1.0}]
    assert len(cut(Emphasis.NONE)) == 1
    assert TOKENIZER.encode("(")[0] in cut(Emphasis.NONE)[0].tokens


def test_the_old_emphasis_reads_brackets_as_tokens() -> None:
    (chunk,) = Cutter(TOKENIZER, old=True).cut("a ((cat)) [dog] " + "b " * 100)
    assert chunk.tokens[1:4] == (*TOKENIZER.encode("a cat dog"),)
    assert chunk.weights[1:4] == pytest.approx((1.0, 1.21, 1 / 1.1))
    assert chunk.weights[5] == pytest.approx(1.0)
    assert chunk.tokens[75] != EOS


def test_two_tokenizers_keep_step() -> None:
    prompt = "< &amp;amp; " + "c " * 73
    first, second = Cutter(TOKENIZER).cut(prompt), Cutter(tokenizer_of("open_clip_g")).cut(prompt)
    assert (len(first), len(second)) == (2, 1)
    assert [chunk.second for chunk in paired(first, second)] == [*second, EMPTY]
    same = Cutter(TOKENIZER).cut("a cat")
    assert paired(same, same) == same


def test_plain_prompts_have_no_weights() -> None:
    assert plain(parse("a cat, trees"))
    assert not plain(parse("a (cat)"))


@given(st.text(max_size=400))
def test_no_prompt_raises(prompt: str) -> None:
    for chunk in Cutter(TOKENIZER, WORDS).cut(prompt):
        assert len(chunk.tokens) == len(chunk.weights) == LENGTH
        assert chunk.tokens[0] == BOS
        assert EOS in chunk.tokens[1 : CONTENT + 2]


@given(st.text(alphabet=BRACKETS, max_size=80), st.sampled_from(list(Emphasis)), st.booleans())
def test_no_heap_of_brackets_raises(prompt: str, emphasis: Emphasis, old: bool) -> None:
    text = without_tags(prompt)
    assert parse(text)
    for part in split_parts(text):
        for timeline in (Timeline(7), Timeline(5, 7), Timeline(5, 7, old=True), Timeline(1)):
            entries = scheduled(part.text, timeline)
            assert [entry.end for entry in entries] == sorted({entry.end for entry in entries})
            assert entries[-1].end == timeline.last
        assert Cutter(TOKENIZER, WORDS, emphasis, old=old).cut(part.text)


def test_a_very_long_prompt_is_read_in_pieces() -> None:
    assert len(chunks_of("word, " * 20_000, TOKENIZER)) == pytest.approx(40_000 / 75, rel=0.05)
