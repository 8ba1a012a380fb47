"""Words that stand for embeddings: a file's name, read as tokens, is replaced by its vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from danqing.prompt.tokenizer import Tokenizer


class Vectors(Protocol):
    """An embedding, as the prompt language knows it. Hashable; equal ones hold the same vectors."""

    @property
    def name(self) -> str:
        """The words that stand for it."""

    @property
    def length(self) -> int:
        """Vectors, each in the place of one token."""

    def of(self, kind: str) -> Any:
        """The vectors for an encoder ("clip_l", "open_clip_h", "open_clip_g"): numpy, (length, dim), float32."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An embedding in a chunk: its first vector stands at `at` of the 77 positions."""

    at: int
    vectors: Vectors


class Triggers:
    """Finds embeddings in a list of tokens.

    Args:
        tokenizer: turns names into tokens; that is why upper and lower case are the same.
        embeddings: a name that several have belongs to the first.
    """

    def __init__(self, tokenizer: Tokenizer | None = None, embeddings: Iterable[Vectors] = ()) -> None:
        self._by_first: dict[int, list[tuple[list[int], Vectors]]] = {}
        for vectors in embeddings:
            ids = tokenizer.encode(vectors.name) if tokenizer else []
            if ids and vectors.length:
                self._by_first.setdefault(ids[0], []).append((ids, vectors))
        for found in self._by_first.values():
            found.sort(key=lambda row: -len(row[0]))

    def find(self, tokens: Sequence[int], at: int) -> tuple[Vectors, int] | None:
        """The embedding whose name begins at `at`, the longest name first, and how many tokens the name takes."""
        for ids, vectors in self._by_first.get(tokens[at], ()):
            if tokens[at : at + len(ids)] == ids:
                return vectors, len(ids)
        return None
