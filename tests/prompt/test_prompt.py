"""The prompt language against what the WebUI made of the same prompts (recorded in `prompts.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompt.chunks import CONTENT, LENGTH, chunks_of, token_count
from danqing.prompt.emphasis import parse, plain
from danqing.prompt.tokenizer import BOS, COMMA, EOS, default_tokenizer

RECORDED = json.loads((Path(__file__).parent / "prompts.json").read_text("utf-8"))
TOKENIZER = default_tokenizer()


def filled(values: list[Any], padding: Any) -> list[Any]:
    """The recorded list with its cut-off padding."""
    return values + [padding] * (LENGTH - len(values))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["prompt"][:30]))
def test_pieces_and_chunks_are_the_recorded_ones(case: dict[str, Any]) -> None:
    pieces = parse(case["prompt"])
    assert [["BREAK", -1] if p.breaks else [p.text, p.weight] for p in pieces] == case["attention"]
    chunks = chunks_of(case["prompt"], TOKENIZER)
    assert [list(c.tokens) for c in chunks] == [filled(c["tokens"], EOS) for c in case["chunks"]]
    assert [list(c.weights) for c in chunks] == [filled(c["weights"], 1.0) for c in case["chunks"]]


def test_words_and_commas_are_clip_s_tokens() -> None:
    assert TOKENIZER.encode("A Cat,") == [320, 2368, COMMA]
    assert TOKENIZER.encode("红色的圆")
    assert TOKENIZER.encode("  \n ") == []


@pytest.mark.parametrize(
    ("prompt", "counted"), [("", (0, 75)), ("a cat", (2, 75)), ("a " * 75, (75, 75)), ("a " * 76, (76, 150))]
)
def test_token_count(prompt: str, counted: tuple[int, int]) -> None:
    assert token_count(prompt, TOKENIZER) == counted


def test_a_comma_near_the_end_is_where_the_chunk_is_cut() -> None:
    chunks = chunks_of("a " * 70 + ", " + "b " * 10, TOKENIZER)
    assert list(chunks[0].tokens[:73]) == [BOS, *[320] * 70, COMMA, EOS]
    far = chunks_of("a " * 40 + ", " + "b " * 50, TOKENIZER)
    assert EOS not in far[0].tokens[1:76]


def test_plain_prompts_have_no_weights() -> None:
    assert plain(parse("a cat, trees"))
    assert not plain(parse("a (cat)"))


@given(st.text(max_size=400))
def test_no_prompt_raises(prompt: str) -> None:
    for chunk in chunks_of(prompt, TOKENIZER):
        assert len(chunk.tokens) == len(chunk.weights) == LENGTH
        assert chunk.tokens[0] == BOS
        assert EOS in chunk.tokens[1 : CONTENT + 2]


@given(st.text(alphabet="()[]:\\.0123456789ab BREAK-+", max_size=60))
def test_no_heap_of_brackets_raises(prompt: str) -> None:
    assert parse(prompt)
    assert chunks_of(prompt, TOKENIZER)


def test_a_very_long_prompt_is_read_in_pieces() -> None:
    assert len(chunks_of("word, " * 20_000, TOKENIZER)) == pytest.approx(40_000 / 75, rel=0.05)
