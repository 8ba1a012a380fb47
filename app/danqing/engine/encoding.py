"""Runs the text encoders: chunks of 77 tokens in, weighted conditionings out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from danqing.engine.calls import Conditioning, Encode
from danqing.engine.models import Model
from danqing.prompt.chunks import Chunk


def encode(calls: Sequence[Encode], device: torch.device) -> list[tuple[Conditioning, ...]]:
    """A conditioning for every prompt of every call; all calls are of one model and one clip skip."""
    model: Model = calls[0].model
    chunks = [chunk for call in calls for prompt in call.prompts for chunk in prompt]
    tokens = torch.tensor([chunk.tokens for chunk in chunks], device=device)
    skip = calls[0].clip_skip
    out = model.text(input_ids=tokens, output_hidden_states=skip > 1)
    hidden = out.last_hidden_state
    if skip > 1:
        layer = min(skip, len(out.hidden_states))
        hidden = model.text.final_layer_norm(out.hidden_states[-layer])
    answers, start = [], 0
    for call in calls:
        count = sum(len(prompt) for prompt in call.prompts)
        answers.append(_split(_weighted(hidden[start : start + count].float(), call), call))
        start += count
    return answers


def _split(hidden: torch.Tensor, call: Encode) -> tuple[Conditioning, ...]:
    """(chunks, 77, dim) of a whole call as one (77 * chunks, dim) per prompt."""
    parts = torch.split(hidden, [len(prompt) for prompt in call.prompts])
    return tuple(Conditioning(part.reshape(-1, part.shape[-1]).cpu()) for part in parts)


def _weighted(hidden: torch.Tensor, call: Encode) -> torch.Tensor:
    """Emphasis: each token's vector times its weight, then the mean of the whole call brought back to what it was.

    hidden: (chunks, 77, dim), of all prompts of the call.
    """
    chunks: list[Chunk] = [chunk for prompt in call.prompts for chunk in prompt]
    if all(weight == 1.0 for chunk in chunks for weight in chunk.weights):
        return hidden
    weights = torch.tensor([chunk.weights for chunk in chunks], device=hidden.device)
    weighted = hidden * weights[..., None]
    ratio = hidden.mean() / weighted.mean()
    return weighted * ratio if bool(torch.isfinite(ratio)) else weighted
