"""Captions to conditionings, with gradients where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from danqing.engine.models import TextEncoder
from danqing.prompt.tokenizer import BOS, EOS, tokenizer_of
from danqing.train.captions import spoken

LENGTH = 77
KEPT = 4096
"""Conditionings of captions that are kept while the text encoder does not change."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A word that stands for vectors (n, width) being learned."""

    word: str
    vectors: torch.Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """77 ids and where the placeholder's vectors begin."""

    ids: list[int]
    places: list[int]


def row_of(text: str, encoder: TextEncoder, word: str = "", count: int = 0) -> Row:
    """A caption as the encoder reads it, what is behind the 75th token cut off.

    Args:
        word: stands for `count` vectors wherever it is found, in upper or lower case.
    """
    encode = tokenizer_of(encoder.kind).encode
    parts = spoken(word).split(text) if word else [text]
    ids: list[int] = []
    places: list[int] = []
    for index, part in enumerate(parts):
        if index and len(ids) + count <= LENGTH - 2:
            places.append(len(ids) + 1)
            ids += [EOS] * count
        ids += encode(part)
    ids = ids[: LENGTH - 2]
    pad = encoder.pad
    return Row([BOS, *ids, EOS, *[pad] * (LENGTH - 2 - len(ids))], places)


class Encoding:
    """Reads captions with one text encoder.

    Args:
        frozen: neither the encoder nor a placeholder changes, so that what was read once is kept.
    """

    def __init__(self, encoder: TextEncoder, placeholder: Placeholder | None = None, frozen: bool = True) -> None:
        self._encoder, self._placeholder, self._frozen = encoder, placeholder, frozen
        self._kept: dict[str, torch.Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """(texts, 77, width)."""
        if not self._frozen:
            return self._read(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if len(self._kept) + len(new) > KEPT:
            self._kept.clear()
            new = list(dict.fromkeys(texts))
        if new:
            with torch.no_grad():
                self._kept.update(zip(new, self._read(new), strict=True))
        return torch.stack([self._kept[text] for text in texts])

    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        placeholder = self._placeholder
        word, count = (placeholder.word, len(placeholder.vectors)) if placeholder else ("", 0)
        rows = [row_of(text, self._encoder, word, count) for text in texts]
        module = self._encoder.module
        text = getattr(module, "text_model", module)
        second = self._encoder.kind == "open_clip_h"  # SD 2 reads the last layer but one
        table = text.embeddings.token_embedding
        handle = table.register_forward_hook(lambda _module, _args, embedded: self._placed(embedded, rows))
        try:
            out = module(
                input_ids=torch.tensor([row.ids for row in rows], device=table.weight.device),
                output_hidden_states=second,
            )
        finally:
            handle.remove()
        hidden: torch.Tensor = text.final_layer_norm(out.hidden_states[-2]) if second else out.last_hidden_state
        return hidden

    def _placed(self, embedded: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
        if self._placeholder is None or not any(row.places for row in rows):
            return embedded
        embedded, vectors = embedded.clone(), self._placeholder.vectors.to(embedded.dtype)
        for index, row in enumerate(rows):
            for place in row.places:
                embedded[index, place : place + len(vectors)] = vectors
        return embedded
