"""Runs the text encoders: chunks of 77 tokens in, weighted conditionings out."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from danqing.engine.calls import Conditioning, Encode
from danqing.engine.models import Model, TextEncoder
from danqing.prompt.chunks import EMPTY, Chunk
from danqing.prompt.emphasis import Emphasis
from danqing.prompt.tokenizer import EOS

ROWS = 64
"""Chunks in one forward of a text encoder; a longer prompt takes several."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """hidden: (chunks, 77, dim) float32. pooled: (chunks, dim) of an encoder with a projection."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


class ChunkMemory:
    """What the text encoders made of chunks not long ago: prompts that differ in one chunk share the others, and nearly all share
    the empty one.

    Args:
        most: chunks kept, a quarter of a megabyte each.
    """

    def __init__(self, most: int = 128) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor | None]] = OrderedDict()

    def encoded(
        self, owner: tuple[Any, ...], chunks: Sequence[Chunk], run: Callable[[Sequence[Chunk]], _Encoded]
    ) -> _Encoded:
        """The chunks' encodings; `run` makes those that are not known. owner: model, adapters, and whatever else has a say."""
        keys = [(*owner, chunk.tokens, chunk.vectors) for chunk in chunks]
        missing = dict(zip(keys, chunks, strict=True))
        missing = {key: chunk for key, chunk in missing.items() if key not in self._kept}
        if missing:
            made = run(list(missing.values()))
            pooled = made.pooled if made.pooled is not None else [None] * len(missing)
            self._kept.update(zip(missing, zip(made.hidden, pooled, strict=True), strict=True))
        rows = [self._kept[key] for key in keys]
        for key in keys:
            self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        ends = [end for _, end in rows if end is not None]
        return _Encoded(torch.stack([hidden for hidden, _ in rows]), torch.stack(ends) if ends else None)

    def forget(self, model: str | None = None) -> None:
        """Let go of a model's chunks, or of all."""
        for key in [key for key in self._kept if model is None or key[0] == model]:
            del self._kept[key]


def encode(
    calls: Sequence[Encode], device: torch.device, memory: ChunkMemory | None = None
) -> list[tuple[Conditioning, ...]]:
    """A conditioning for every prompt of every call; all calls are of one model and one clip skip.

    Chunks that several prompts share are encoded once; those in `memory` not again.
    """
    memory = memory or ChunkMemory()
    model: Model = calls[0].model
    places: dict[Chunk, int] = {EMPTY: 0}
    tables = [_table(call, places) for call in calls]
    chunks = list(places)
    if not any(0 in row for table in tables for row in table):
        chunks = chunks[1:]
        tables = [[[place - 1 for place in row] for row in table] for table in tables]
    found = []
    for order, encoder in enumerate(model.encoders):
        read = [chunk.second or chunk for chunk in chunks] if order else chunks
        skip, of_two = calls[0].clip_skip, len(model.encoders) > 1
        owner = (model.key, order, skip, calls[0].adapters, calls[0].tiling)
        found.append(memory.encoded(owner, read, partial(_run, encoder, skip=skip, of_two=of_two, device=device)))
    return [_answer(call, table, chunks, found) for call, table in zip(calls, tables, strict=True)]


def _table(call: Encode, places: dict[Chunk, int]) -> list[list[int]]:
    """For each prompt of a call the numbers of its chunks, filled up to the longest prompt; new chunks get a number."""
    longest = max(len(prompt) for prompt in call.prompts)
    padded = [[*prompt, *[EMPTY] * (longest - len(prompt))] for prompt in call.prompts]
    return [[places.setdefault(chunk, len(places)) for chunk in prompt] for prompt in padded]


def _run(encoder: TextEncoder, chunks: Sequence[Chunk], skip: int, of_two: bool, device: torch.device) -> _Encoded:
    parts = [_forward(encoder, chunks[i : i + ROWS], skip, of_two, device) for i in range(0, len(chunks), ROWS)]
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return _Encoded(torch.cat([part.hidden for part in parts]), torch.cat(pooled) if pooled else None)


def _forward(encoder: TextEncoder, chunks: Sequence[Chunk], skip: int, of_two: bool, device: torch.device) -> _Encoded:
    tokens = torch.tensor([_padded(chunk.tokens, encoder.pad) for chunk in chunks], device=device)
    layer, norm = _layer(encoder.kind, skip, of_two)
    text = getattr(encoder.module, "text_model", encoder.module)
    with _injected(text, chunks, encoder.kind):
        out = encoder.module(input_ids=tokens, output_hidden_states=layer > 1)
    hidden = out.last_hidden_state
    if layer > 1 or not norm:
        hidden = out.hidden_states[-min(layer, len(out.hidden_states))]
        hidden = text.final_layer_norm(hidden) if norm else hidden
    pooled = getattr(out, "text_embeds", None)
    return _Encoded(hidden.float().cpu(), None if pooled is None else pooled.float().cpu())


def _layer(kind: str, skip: int, of_two: bool) -> tuple[int, bool]:
    """Which layer's output, counted from the last (1), and whether the final norm follows.

    SD 1: clip skip, with the norm. SD 2: the last but one, with the norm. SDXL: the last but one of both, without it; there
    clip skip counts for the first encoder only, and only where a plan passes it on (0 is the encoder's own layer).
    """
    if kind == "open_clip_g":
        return 2, False
    if kind == "open_clip_h":
        return 2, True
    return (skip or 2, False) if of_two else (skip or 1, True)


def _padded(tokens: tuple[int, ...], pad: int) -> tuple[int, ...]:
    """Behind the first end token stands the encoder's own padding."""
    if pad == EOS:
        return tokens
    end = tokens.index(EOS) + 1
    return (*tokens[:end], *[pad] * (len(tokens) - end))


@contextlib.contextmanager
def _injected(text: Any, chunks: Sequence[Chunk], kind: str) -> Iterator[None]:
    """Within the context embeddings stand in the places of their tokens, each in its own row; nothing else is touched."""
    if not any(chunk.vectors for chunk in chunks):
        yield
        return

    def replace(_module: Any, _args: Any, embedded: torch.Tensor) -> torch.Tensor:
        embedded = embedded.clone()
        for row, chunk in enumerate(chunks):
            for placed in chunk.vectors:
                vectors = torch.from_numpy(placed.vectors.of(kind)[: len(chunk.tokens) - placed.at - 1])
                if vectors.shape[1] == embedded.shape[2]:
                    embedded[row, placed.at : placed.at + len(vectors)] = vectors.to(embedded)
        return embedded

    handle = text.embeddings.token_embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _answer(
    call: Encode, table: list[list[int]], chunks: Sequence[Chunk], found: Sequence[_Encoded]
) -> tuple[Conditioning, ...]:
    """Weights put on, encoders side by side, chunks one behind the other."""
    index = torch.tensor(table)
    contexts = []
    for order, encoded in enumerate(found):
        read = [[(chunks[i].second or chunks[i]) if order else chunks[i] for i in row] for row in table]
        contexts.append(_weighted(encoded.hidden[index], read, call.emphasis))
    context = torch.cat(contexts, dim=-1).flatten(1, 2)
    pooled = found[-1].pooled
    return tuple(
        Conditioning(context[row].clone(), None if pooled is None else pooled[index[row, 0]].clone())
        for row in range(len(table))
    )


def _weighted(hidden: torch.Tensor, chunks: Sequence[Sequence[Chunk]], emphasis: str) -> torch.Tensor:
    """Each token's vector times its weight; "Original" then restores the mean, chunk by chunk, over all prompts of the call.

    hidden: (prompts, chunks, 77, dim).
    """
    if all(weight == 1.0 for row in chunks for chunk in row for weight in chunk.weights):
        return hidden
    weights = torch.tensor([[chunk.weights for chunk in row] for row in chunks])
    weighted = hidden * weights[..., None]
    if emphasis != Emphasis.ORIGINAL:
        return weighted
    # Each mean over contiguous numbers, as the WebUI takes it: means lie near 0, where the order of summing shows.
    before = torch.stack([hidden[:, i].contiguous().mean() for i in range(hidden.shape[1])])
    after = torch.stack([weighted[:, i].contiguous().mean() for i in range(hidden.shape[1])])
    ratio = (before / after)[:, None, None]
    return torch.where(ratio.isfinite(), weighted * ratio, weighted)
