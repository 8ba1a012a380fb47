"""Step schedules, AND parts and tags, beyond what is recorded."""

from __future__ import annotations

import sys
import threading

import pytest

from danqing.prompt.emphasis import parse
from danqing.prompt.networks import network_tags, without_tags
from danqing.prompt.parts import split_parts
from danqing.prompt.schedule import Timeline, scheduled


def read(prompt: str, steps: int = 8, base: int | None = None, old: bool = False) -> list[tuple[int, str]]:
    return [(entry.end, entry.text) for entry in scheduled(prompt, Timeline(steps, base, old))]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[a|b|]", [(1, "a"), (2, "b"), (3, ""), (4, "a"), (5, "b"), (6, ""), (7, "a"), (8, "b")]),
        ("[[a|b]:c:0.25]", [(1, "a"), (2, "b"), *[(i, "c") for i in range(3, 9)]]),
        ("[a:[b:c:6]:2]", [(2, "a"), (6, "b"), (8, "c")]),
        ("[a:b: 5 ]", [(5, "a"), (8, "b")]),
        ("[a:b:+5]", [(5, "a"), (8, "b")]),
        ("[5:6:7]", [(7, "5"), (8, "6")]),
        ("[a:b:-1]", [(8, "b")]),
        ("[a:b:0.05]", [(8, "b")]),
        ("[a:b:99]", [(8, "a")]),
        ("[::3] x", [(3, " x"), (8, " x")]),
        ("(a [b:c:2]:1.2)", [(2, "(a b:1.2)"), (8, "(a c:1.2)")]),
        (r"[a\:b:c\]:2]", [(2, r"a\:b"), (8, r"c\]")]),
    ],
)
def test_what_a_bracket_means(prompt: str, expected: list[tuple[int, str]]) -> None:
    assert read(prompt) == expected


@pytest.mark.parametrize(
    "prompt", ["[a:b]", "[a:b:c:5]", "[a:b:x]", "[a|b:2]", "a | b [c:d:2]", "[(a:b:1.2):c:5]", "[a:b:2] \\", "[a [b:2"]
)
def test_what_is_no_schedule_stays_as_it_is(prompt: str) -> None:
    assert read(prompt) == [(8, prompt)]


def test_a_schedule_beside_stray_brackets_still_counts() -> None:
    assert read("(a:b:c) ] [d:e:5] [") == [(5, "(a:b:c) ] d ["), (8, "(a:b:c) ] e [")]


def test_the_hires_pass_counts_on() -> None:
    assert read("[a:b:0.5] [x:y:1.5]", steps=10, base=20) == [(5, "b x"), (10, "b y")]
    assert read("[a:b:24]", steps=10, base=20) == [(4, "a"), (10, "b")]
    assert read("[a:b:5] [c:d:0.25]", steps=10, base=20, old=True) == [(5, "a c"), (20, "b d")]


def test_old_timelines_take_what_is_below_one_for_a_share() -> None:
    assert read("[a:b:1.5]", steps=8) == [(8, "a")]
    assert read("[a:b:1.5]", steps=8, old=True) == [(1, "a"), (8, "b")]
    assert read("[a:b:.5]", steps=8, old=True) == [(4, "a"), (8, "b")]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("cat AND dog", [("cat", 1.0), (" dog", 1.0)]),
        ("cat:.5 AND dog : -1.3 \n", [("cat", 0.5), (" dog", -1.3)]),
        ("cat:1e3", [("cat:1e3", 1.0)]),
        ("a:1:2", [("a:1", 2.0)]),
        ("BRAND AND", [("BRAND", 1.0), ("", 1.0)]),
        ("a and b", [("a and b", 1.0)]),
    ],
)
def test_parts(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert [(part.text, part.weight) for part in split_parts(prompt)] == expected


def test_tags() -> None:
    prompt = "a <lora:x:0.8:unet=0.5> <lyco:y><hypernet:z:1> <b> <c:>"
    assert without_tags(prompt) == "a   <b> <c:>"
    first, second, third = network_tags(prompt)
    assert (first.kind, first.positional, first.named) == ("lora", ("x", "0.8"), {"unet": "0.5"})
    assert (second.kind, second.positional) == ("lyco", ("y",))
    assert (third.kind, third.positional) == ("hypernet", ("z", "1"))


HEAPS = {
    "open": "(" * 300_000,
    "nested": "[" * 30_000 + "]" * 30_000,
    "never closed": "[a:" * 30_000,
    "alternates": "[a|" * 30_000 + "]" * 30_000,
    "closed only": "a:5]" * 25_000,
    "switches": "[a:b:5]" * 10_000,
    "nested switches": "[" * 20_000 + ":5]" * 20_000,
    "blanks": " " * 1_000_000 + ":1",
    "backslashes": "\\[" * 500_000,
    "weights": "(a:1.1)" * 14_000,
    "tags": "<lora:" * 160_000,
}


@pytest.mark.parametrize("name", ["open", "never closed", "blanks", "backslashes", "tags"])
def test_a_huge_prompt_is_read_once(name: str) -> None:
    """Reading is linear in the length: what is not would not end before the test's own time limit."""
    text = without_tags(HEAPS[name])
    (part, *_) = split_parts(text)
    scheduled(part.text, Timeline(3))


@pytest.mark.parametrize("name", ["nested", "alternates", "switches", "nested switches"])
def test_deep_nests_need_no_deep_calls(name: str) -> None:
    """Nothing recurses: a thread with a small stack reads what nests 20,000 levels deep."""
    done: list[int] = []
    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: done.append(len(scheduled(HEAPS[name], Timeline(2)))))
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    assert done
    assert sys.getrecursionlimit() < 20_000


@pytest.mark.parametrize("name", ["open", "nested", "weights"])
def test_weights_of_a_huge_prompt(name: str) -> None:
    assert parse(HEAPS[name])
