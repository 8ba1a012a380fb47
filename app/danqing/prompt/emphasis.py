"""Weights in a prompt: `(x)`, `[x]`, `(x:1.3)`, escapes and `BREAK`.

The WebUI's rules: a round bracket multiplies by 1.1, a square one divides by it, `(x:w)` multiplies by w; brackets that are
never closed reach to the end, stray closers are literal, and a backslash makes the next bracket literal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

ROUND = 1.1
SQUARE = 1 / 1.1

_TOKEN = re.compile(r"\\\(|\\\)|\\\[|\\\]|\\\\|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*", re.DOTALL)


class Emphasis(StrEnum):
    """What weights do. The values are the names that the option `emphasis` has."""

    NONE = "None"
    """Nothing is parsed: brackets and `BREAK` are text."""
    IGNORE = "Ignore"
    """Parsed and left unused."""
    ORIGINAL = "Original"
    """Vectors are multiplied, then all are scaled so that their mean is what it was."""
    NO_NORM = "No norm"
    """Vectors are multiplied."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that shares one weight; `breaks` means that a `BREAK` ends the chunk here and `text` is empty."""

    text: str
    weight: float
    breaks: bool = False


def parse(prompt: str) -> list[Piece]:
    """`prompt` cut into pieces of equal weight. Never raises: what does not parse is literal text."""
    pieces: list[Piece] = []
    open_round: list[int] = []
    open_square: list[int] = []

    def scale(start: int, factor: float) -> None:
        for i in range(start, len(pieces)):
            if not pieces[i].breaks:
                pieces[i] = Piece(pieces[i].text, pieces[i].weight * factor)

    for match in _TOKEN.finditer(prompt):
        text, weight = match[0], match[1]
        if text.startswith("\\"):
            pieces.append(Piece(text[1:], 1.0))
        elif text == "(":
            open_round.append(len(pieces))
        elif text == "[":
            open_square.append(len(pieces))
        elif weight is not None and open_round and (factor := _number(weight)) is not None:
            scale(open_round.pop(), factor)
        elif text == ")" and open_round:
            scale(open_round.pop(), ROUND)
        elif text == "]" and open_square:
            scale(open_square.pop(), SQUARE)
        else:
            pieces.extend(_split_breaks(text))
    for start in open_round:
        scale(start, ROUND)
    for start in open_square:
        scale(start, SQUARE)
    return _merged(pieces) or [Piece("", 1.0)]


def plain(pieces: list[Piece]) -> bool:
    """Whether no piece has a weight of its own."""
    return all(piece.weight == 1.0 for piece in pieces)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _split_breaks(text: str) -> list[Piece]:
    found: list[Piece] = []
    for i, part in enumerate(_BREAK.split(text)):
        if i:
            found.append(Piece("", 1.0, breaks=True))
        found.append(Piece(part, 1.0))
    return found


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of equal weight become one piece, so that they are tokenised together."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged and not piece.breaks and not merged[-1].breaks and merged[-1].weight == piece.weight:
            merged[-1] = Piece(merged[-1].text + piece.text, piece.weight)
        else:
            merged.append(piece)
    return merged
