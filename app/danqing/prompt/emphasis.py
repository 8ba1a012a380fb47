"""Weights in a prompt: `(x)`, `[x]`, `(x:1.3)`, escapes and `BREAK`.

The WebUI's rules: a round bracket multiplies by 1.1, a square one divides by it, `(x:w)` multiplies by w; brackets that are
never closed reach to the end, stray closers are literal, and a backslash makes the next bracket literal.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from dataclasses import dataclass
from enum import StrEnum

ROUND = 1.1
SQUARE = 1 / 1.1

PRODUCTS = 2_000_000
"""Multiplications that are done one by one, in the order in which brackets close, as the WebUI does them."""

_LOG_LIMIT = 80.0
_TOKEN = re.compile(r"\\\(|\\\)|\\\[|\\\]|\\\\|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")


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


@dataclass(frozen=True, slots=True)
class _Scale:
    """Brackets: the pieces from `start` to before `end` are multiplied."""

    start: int
    end: int
    factor: float


def parse(prompt: str) -> list[Piece]:
    """`prompt` cut into pieces of equal weight. Never raises: what does not parse is literal text."""
    pieces: list[Piece] = []
    scales: list[_Scale] = []
    open_round: list[int] = []
    open_square: list[int] = []
    for match in _TOKEN.finditer(prompt):
        text, weight = match[0], match[1]
        if text.startswith("\\"):
            pieces.append(Piece(text[1:], 1.0))
        elif text == "(":
            open_round.append(len(pieces))
        elif text == "[":
            open_square.append(len(pieces))
        elif weight is not None and open_round and (factor := _number(weight)) is not None:
            scales.append(_Scale(open_round.pop(), len(pieces), factor))
        elif text == ")" and open_round:
            scales.append(_Scale(open_round.pop(), len(pieces), ROUND))
        elif text == "]" and open_square:
            scales.append(_Scale(open_square.pop(), len(pieces), SQUARE))
        else:
            pieces.extend(_split_breaks(text))
    scales += [_Scale(start, len(pieces), ROUND) for start in open_round]
    scales += [_Scale(start, len(pieces), SQUARE) for start in open_square]
    return _merged(_weighted(pieces, scales)) or [Piece("", 1.0)]


def _weighted(pieces: list[Piece], scales: list[_Scale]) -> list[Piece]:
    """The pieces with the weights of all brackets around them."""
    if sum(scale.end - scale.start for scale in scales) > PRODUCTS:
        weights = _summed(len(pieces), scales)
    else:
        weights = [1.0] * len(pieces)
        for scale in scales:
            for i in range(scale.start, scale.end):
                weights[i] *= scale.factor
    return [
        piece if piece.breaks or weight == 1.0 else Piece(piece.text, weight)
        for piece, weight in zip(pieces, weights, strict=True)
    ]


def _summed(count: int, scales: list[_Scale]) -> list[float]:
    """The same by sums of logarithms, for prompts that are all brackets: one pass, however deep they nest."""
    change = [[0.0, 0, 0] for _ in range(count + 1)]
    for scale in scales:
        size, zero, minus = abs(scale.factor), scale.factor == 0, scale.factor < 0
        log = 0.0 if zero else math.log(min(size, sys.float_info.max))
        for at, sign in ((scale.start, 1), (scale.end, -1)):
            change[at][0] += sign * log
            change[at][1] += sign * zero
            change[at][2] += sign * minus
    weights, log, zeros, minuses = [], 0.0, 0, 0
    for row in change[:count]:
        log, zeros, minuses = log + row[0], zeros + int(row[1]), minuses + int(row[2])
        size = 0.0 if zeros else math.exp(max(-_LOG_LIMIT, min(_LOG_LIMIT, log)))
        weights.append(-size if minuses % 2 else size)
    return weights


def plain(pieces: list[Piece]) -> bool:
    """Whether no piece has a weight of its own."""
    return all(piece.weight == 1.0 for piece in pieces)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _split_breaks(text: str) -> list[Piece]:
    """The blanks around a `BREAK` belong to it."""
    parts = _BREAK.split(text)
    found: list[Piece] = []
    for i, part in enumerate(parts):
        if i:
            found.append(Piece("", 1.0, breaks=True))
            part = part.lstrip()
        found.append(Piece(part.rstrip() if i < len(parts) - 1 else part, 1.0))
    return found


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of equal weight become one piece, so that they are tokenised together."""
    merged: list[Piece] = []
    for (breaks, weight), group in itertools.groupby(pieces, lambda piece: (piece.breaks, piece.weight)):
        same = list(group)
        merged += same if breaks else [Piece("".join(piece.text for piece in same), weight)]
    return merged
