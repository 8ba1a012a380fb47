"""From pieces to the chunks of 77 tokens that the text encoder reads: start, 75 of the prompt, end and padding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from danqing.prompt.emphasis import Piece, parse
from danqing.prompt.tokenizer import BOS, COMMA, EOS, Tokenizer

CONTENT = 75
LENGTH = CONTENT + 2
BACKTRACK = 20
"""Tokens: a comma at most this far before the end of a full chunk is where the chunk is cut."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`tokens`: 77 ids, padded with the end token. `weights`: 77 factors, 1 at start, end and padding."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(slots=True)
class _Builder:
    chunks: list[Chunk] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    last_comma: int = -1

    def add(self, token: int, weight: float) -> None:
        if token == COMMA:
            self.last_comma = len(self.tokens)
        elif len(self.tokens) == CONTENT and self._comma_is_near():
            self._cut_at_comma()
        if len(self.tokens) == CONTENT:
            self.flush()
        self.tokens.append(token)
        self.weights.append(weight)

    def _comma_is_near(self) -> bool:
        return self.last_comma != -1 and len(self.tokens) - self.last_comma <= BACKTRACK

    def _cut_at_comma(self) -> None:
        at = self.last_comma + 1
        tokens, weights = self.tokens[at:], self.weights[at:]
        del self.tokens[at:], self.weights[at:]
        self.flush()
        self.tokens, self.weights = tokens, weights

    def flush(self) -> None:
        padding = CONTENT - len(self.tokens)
        tokens = (BOS, *self.tokens, EOS, *[EOS] * padding)
        self.chunks.append(Chunk(tokens, (1.0, *self.weights, 1.0, *[1.0] * padding)))
        self.tokens, self.weights, self.last_comma = [], [], -1


def chunked(pieces: list[Piece], tokenizer: Tokenizer) -> list[Chunk]:
    """The chunks of a prompt, one at least. A `BREAK` ends a chunk, even an empty one."""
    builder = _Builder()
    for piece in pieces:
        if piece.breaks:
            builder.flush()
            continue
        for token in tokenizer.encode(piece.text):
            builder.add(token, piece.weight)
    if builder.tokens or not builder.chunks:
        builder.flush()
    return builder.chunks


def chunks_of(prompt: str, tokenizer: Tokenizer) -> list[Chunk]:
    """The chunks of a prompt with its weights."""
    return chunked(parse(prompt), tokenizer)


def token_count(prompt: str, tokenizer: Tokenizer) -> tuple[int, int]:
    """Tokens used and the room that their chunks give, as the counter beside the prompt shows them: (2, 75)."""
    used = sum(len(tokenizer.encode(piece.text)) for piece in parse(prompt))
    return used, CONTENT * math.ceil(max(used, 1) / CONTENT)
