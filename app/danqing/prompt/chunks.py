"""From pieces to the chunks of 77 tokens that the text encoder reads: start, 75 of the prompt, end and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from danqing.prompt.emphasis import Emphasis, Piece, parse
from danqing.prompt.tokenizer import BOS, COMMA, EOS, Tokenizer
from danqing.prompt.triggers import Placed, Triggers, Vectors

CONTENT = 75
LENGTH = CONTENT + 2
BACKTRACK = 20
"""Tokens: a comma at most this far before the end of a full chunk is where the chunk is cut."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """`tokens`: 77 ids, padded with the end token. `weights`: 77 factors, 1 at start, end and padding.

    `vectors`: embeddings that take the place of tokens. `second`: what a second encoder with a tokenizer of its own reads
    (SDXL), None where it reads the same.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    vectors: tuple[Placed, ...] = ()
    second: Chunk | None = None


EMPTY = Chunk((BOS, *[EOS] * (LENGTH - 1)), (1.0,) * LENGTH)
"""What fills the shorter prompts of a call."""


@dataclass(frozen=True, slots=True)
class Cutter:
    """How prompts become chunks.

    Args:
        tokenizer: of the encoder that reads them.
        triggers: the embeddings that words may stand for.
        emphasis: how weights are read.
        backtrack: see `BACKTRACK`; 0 cuts chunks wherever they end.
        old: the WebUI's first way: every bracket among the tokens changes the weight of what follows, there is no `(x:1.3)` and
            no `BREAK`, and what does not fit into one chunk is cut off.
    """

    tokenizer: Tokenizer
    triggers: Triggers = field(default_factory=Triggers)
    emphasis: Emphasis = Emphasis.ORIGINAL
    backtrack: int = BACKTRACK
    old: bool = False

    def cut(self, prompt: str) -> tuple[Chunk, ...]:
        """The chunks of a prompt, one at least. A `BREAK` ends a chunk, even an empty one. Never raises."""
        return tuple(self._built(prompt).chunks)

    def count(self, prompt: str) -> int:
        """Tokens that a prompt takes; a `BREAK` takes what is left of its chunk."""
        builder = self._built(prompt)
        return CONTENT * (len(builder.chunks) - 1) + builder.last

    def _built(self, prompt: str) -> _Builder:
        if self.old:
            return self._built_old(prompt)
        builder = _Builder(self.backtrack)
        pieces = [Piece(prompt, 1.0)] if self.emphasis is Emphasis.NONE else parse(prompt)
        for piece in pieces:
            if piece.breaks:
                builder.flush()
            else:
                self._add(builder, piece)
        if builder.tokens or not builder.chunks:
            builder.flush(last=True)
        return builder

    def _built_old(self, prompt: str) -> _Builder:
        builder = _Builder(0)
        tokens = self.tokenizer.encode(prompt)
        factors = {} if self.emphasis is Emphasis.NONE else self.tokenizer.brackets
        weight, at = 1.0, 0
        while at < len(tokens) and len(builder.tokens) < CONTENT:
            found = self.triggers.find(tokens, at)
            if tokens[at] in factors:
                weight, found = weight * factors[tokens[at]], None
            elif found is None:
                builder.add([tokens[at]], weight)
            elif len(builder.tokens) + found[0].length <= CONTENT:
                builder.place(found[0], weight)
            at += found[1] if found else 1
        builder.flush(last=True)
        return builder

    def _add(self, builder: _Builder, piece: Piece) -> None:
        tokens = self.tokenizer.encode(piece.text)
        weight = 1.0 if self.emphasis is Emphasis.IGNORE else piece.weight
        at = 0
        while at < len(tokens):
            builder.make_room(tokens[at])
            found = self.triggers.find(tokens, at)
            if found is None:
                builder.add([tokens[at]], weight)
                at += 1
            else:
                vectors, length = found
                builder.place(vectors, weight)
                at += length


@dataclass(slots=True)
class _Builder:
    backtrack: int
    chunks: list[Chunk] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    vectors: list[Placed] = field(default_factory=list)
    last_comma: int = -1
    last: int = CONTENT
    """Tokens in the last chunk, or all of it when a `BREAK` ended it."""

    def make_room(self, token: int) -> None:
        """End the chunk if it is full, at a comma that is near."""
        if token == COMMA:
            self.last_comma = len(self.tokens)
        elif len(self.tokens) == CONTENT and self._comma_is_near():
            self._cut_at_comma()
        if len(self.tokens) == CONTENT:
            self.flush()

    def add(self, tokens: list[int], weight: float) -> None:
        self.tokens += tokens
        self.weights += [weight] * len(tokens)

    def place(self, vectors: Vectors, weight: float) -> None:
        """An embedding is never split: what does not fit begins the next chunk."""
        length = min(vectors.length, CONTENT)
        if len(self.tokens) + length > CONTENT:
            self.flush()
        self.vectors.append(Placed(len(self.tokens) + 1, vectors))
        self.add([0] * length, weight)

    def _comma_is_near(self) -> bool:
        return self.last_comma != -1 and len(self.tokens) - self.last_comma <= self.backtrack

    def _cut_at_comma(self) -> None:
        at = self.last_comma + 1
        tokens, weights = self.tokens[at:], self.weights[at:]
        moved = [replace(placed, at=placed.at - at) for placed in self.vectors if placed.at > at]
        del self.tokens[at:], self.weights[at:]
        self.vectors = [placed for placed in self.vectors if placed.at <= at]
        self.flush()
        self.tokens, self.weights, self.vectors = tokens, weights, moved

    def flush(self, last: bool = False) -> None:
        padding = CONTENT - len(self.tokens)
        tokens = (BOS, *self.tokens, EOS, *[EOS] * padding)
        self.chunks.append(Chunk(tokens, (1.0, *self.weights, 1.0, *[1.0] * padding), tuple(self.vectors)))
        self.last = len(self.tokens) if last else CONTENT
        self.tokens, self.weights, self.vectors, self.last_comma = [], [], [], -1


def paired(first: Sequence[Chunk], second: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """The chunks of one prompt as two encoders with tokenizers of their own read them; the shorter is filled up."""
    return tuple(
        one if one == two else replace(one, second=two) for one, two in zip_longest(first, second, fillvalue=EMPTY)
    )


def chunks_of(prompt: str, tokenizer: Tokenizer) -> list[Chunk]:
    """The chunks of a prompt with its weights, without embeddings."""
    return list(Cutter(tokenizer).cut(prompt))


def room_of(used: int) -> int:
    """The tokens that fit into the chunks that `used` tokens take: the second number of the counter beside a prompt."""
    return CONTENT * math.ceil(max(used, 1) / CONTENT)


def token_count(prompt: str, tokenizer: Tokenizer) -> tuple[int, int]:
    """Tokens used and the room that their chunks give, as the counter beside the prompt shows them: (2, 75)."""
    used = Cutter(tokenizer).count(prompt)
    return used, room_of(used)
