"""`AND` in a positive prompt: parts that are denoised on their own and added up, each with a weight."""

from __future__ import annotations

import re
from dataclasses import dataclass

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[+-]?(?:\d+\.?|\d*\.\d+)")


@dataclass(frozen=True, slots=True)
class PromptPart:
    text: str
    weight: float


def split_parts(prompt: str) -> list[PromptPart]:
    """The parts of a prompt, one at least; `:1.3` at the end of a part is its weight, 1 when there is none.

    Equal parts stay apart. What does not read as a number stays text.
    """
    return [_part(text) for text in _AND.split(prompt)]


def _part(text: str) -> PromptPart:
    text = text.rstrip()
    before, colon, number = text.rpartition(":")
    number = number.strip()
    if colon and _WEIGHT.fullmatch(number):
        return PromptPart(before.rstrip(), float(number))
    return PromptPart(text, 1.0)
