"""What a prompt tells the denoiser at each of its calls: schedules, AND parts and the negative prompt."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from danqing.engine.calls import Adapters, Call, Conditioning, Encode
from danqing.errors import DanqingError
from danqing.library.embeddings import Embedding, Embeddings
from danqing.prompt.chunks import Chunk, Cutter, paired
from danqing.prompt.emphasis import Emphasis
from danqing.prompt.parts import split_parts
from danqing.prompt.schedule import Entry, Timeline, scheduled
from danqing.prompt.tokenizer import tokenizer_of
from danqing.prompt.triggers import Triggers

if TYPE_CHECKING:
    from danqing.engine.models import Model
    from danqing.request import GenerateRequest

MOST_CHUNKS = 192
"""Of one prompt. In English and without BREAK the longest has fewer. Every layer of the denoiser reads them all in each step, and
nobody else draws meanwhile."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The conditionings of one call of the denoiser: the AND parts with their weights, and the negative."""

    parts: tuple[tuple[Conditioning, float], ...]
    uncond: Conditioning


@dataclass(frozen=True, slots=True)
class _Course:
    """One prompt over the steps."""

    entries: tuple[Entry, ...]
    encoded: tuple[Conditioning, ...]

    def at(self, call: int) -> int:
        """The entry in force: the first that has not ended. Beyond the last it is the first, as in the WebUI."""
        return next((i for i, entry in enumerate(self.entries) if call <= entry.end), 0)


class Conditionings:
    """The conditionings of one pass.

    `empty` is what the empty prompt gives, where it was asked for; `infotext` the pairs that the prompts add to it.
    """

    def __init__(
        self,
        parts: list[tuple[_Course, float]],
        negative: _Course,
        empty: Conditioning | None = None,
        infotext: Mapping[str, str] | None = None,
    ) -> None:
        self._parts, self._negative, self.empty = parts, negative, empty
        self.infotext: Mapping[str, str] = infotext or {}
        self._moments: dict[tuple[int, ...], Moment] = {}

    def at(self, call: int) -> Moment:
        """What the `call`-th call of the denoiser in this pass is given, counted from 0."""
        key = (self._negative.at(call), *(course.at(call) for course, _ in self._parts))
        if key not in self._moments:
            encoded = [c.encoded[i] for (c, _), i in zip(self._parts, key[1:], strict=True)]
            weights = [weight for _, weight in self._parts]
            parts = tuple(zip(encoded, weights, strict=True))
            self._moments[key] = Moment(parts, self._negative.encoded[key[0]])
        return self._moments[key]


def conditionings(
    request: GenerateRequest,
    model: Model,
    steps_total: int,
    *,
    hires: bool = False,
    prompt: str,
    negative_prompt: str,
    adapters: Adapters = (),
    base_steps: int | None = None,
    empty: bool = False,
    embeddings: Embeddings | None = None,
    bundled: tuple[Embedding, ...] = (),
) -> Generator[Call, Any, Conditionings]:
    """Encode the prompts of one pass.

    Args:
        steps_total: steps of this pass times the sampler's calls a step.
        prompt: without its tags of networks; `negative_prompt` as it was written.
        base_steps: for the hires pass, the first pass's `steps_total`; None takes the request's steps.
        empty: whether the empty prompt is wanted too (`pad_cond_uncond`).
        embeddings: what words may stand for; None leaves them words.
        bundled: what else they may stand for, from the LoRAs in use.

    Raises:
        DanqingError: `prompt_chunks`.
    """
    options = request.options
    base = (request.steps if base_steps is None else base_steps) if hires else None
    timeline = Timeline(steps_total, base, options.use_old_scheduling)
    reader = _Reader(request, model, adapters, embeddings, bundled)
    negative = yield from reader.read(scheduled(negative_prompt, timeline), negative=True)
    courses: dict[str, _Course] = {}
    parts = split_parts(prompt)
    for text in dict.fromkeys(part.text for part in parts):
        courses[text] = yield from reader.read(scheduled(text, timeline))
    blank = (yield from reader.read_blank()) if empty else None
    return Conditionings([(courses[part.text], part.weight) for part in parts], negative, blank, reader.infotext())


class _Reader:
    """Encodes the entries of a schedule in one call, for the mean that "Original" keeps is that of all of them."""

    def __init__(
        self,
        request: GenerateRequest,
        model: Model,
        adapters: Adapters,
        embeddings: Embeddings | None,
        bundled: tuple[Embedding, ...],
    ) -> None:
        options, kinds = request.options, [encoder.kind for encoder in model.encoders]
        self._model, self._adapters, self._embeddings = model, adapters, embeddings
        self._emphasis = Emphasis(options.emphasis)
        self._old = options.use_old_emphasis_implementation
        self._tells_bundled = options.lora_bundled_ti_to_infotext
        self._zero_empty = "open_clip_g" in kinds
        self._takes_clip_skip = kinds == ["clip_l"] or ("clip_l" in kinds and options.sdxl_clip_l_skip)
        self._clip_skip = request.clip_skip if self._takes_clip_skip else 0
        widths = widths_of(model)
        self._cutters = [
            Cutter(
                tokenizer_of(kind),
                embeddings.triggers(kind, widths, bundled) if embeddings else Triggers(),
                self._emphasis,
                options.comma_padding_backtrack,
                self._old,
            )
            for kind in kinds
        ]
        self._pairs: dict[str, str] = {}
        self._used: dict[str, Embedding] = {}

    def infotext(self) -> dict[str, str]:
        """In the order in which the WebUI comes upon them; what was encoded last names its embeddings first."""
        return dict(self._pairs)

    def read(self, entries: list[Entry], negative: bool = False) -> Generator[Call, Any, _Course]:
        prompts = tuple(self._cut(entry.text) for entry in entries)
        self._note(entries, prompts)
        call = Encode(self._model, prompts, self._clip_skip, self._emphasis.value, self._adapters)
        encoded: tuple[Conditioning, ...] = yield call
        if negative and self._zero_empty and all(not entry.text for entry in entries):
            encoded = tuple(_zeroed(one) for one in encoded)
        return _Course(tuple(entries), encoded)

    def read_blank(self) -> Generator[Call, Any, Conditioning]:
        """The empty prompt as the WebUI encodes it once for a checkpoint: without networks, without clip skip."""
        encoded: tuple[Conditioning, ...] = yield Encode(self._model, (self._cut(""),), 0, self._emphasis.value)
        return encoded[0]

    def _note(self, entries: list[Entry], prompts: tuple[tuple[Chunk, ...], ...]) -> None:
        if self._old:
            return
        placed = dict.fromkeys(placed.vectors for prompt in prompts for chunk in prompt for placed in chunk.vectors)
        found = [one for one in placed if isinstance(one, Embedding) and (self._tells_bundled or not one.owner)]
        if found and self._embeddings is not None:
            named = {one.name: one for one in found}
            self._used = named | {name: one for name, one in self._used.items() if name not in named}
            self._pairs["TI hashes"] = ", ".join(
                f"{re.sub('[:,]', '', name)}: {self._embeddings.short_hash(one)}" for name, one in self._used.items()
            )
        if self._emphasis is not Emphasis.ORIGINAL and any("(" in e.text or "[" in e.text for e in entries):
            self._pairs["Emphasis"] = self._emphasis.value

    def _cut(self, text: str) -> tuple[Chunk, ...]:
        first, *others = (cutter.cut(text) for cutter in self._cutters)
        chunks = paired(first, others[0]) if others else first
        if len(chunks) > MOST_CHUNKS:
            raise DanqingError("prompt_chunks", count=len(chunks), maximum=MOST_CHUNKS)
        return chunks


def widths_of(model: Model) -> tuple[tuple[str, int], ...]:
    """The text encoders of a model: kind and width of each."""
    return tuple((encoder.kind, _width(encoder.module)) for encoder in model.encoders)


def _width(module: Any) -> int:
    """Numbers in a vector of a text encoder's tokens."""
    text = getattr(module, "text_model", module)
    return int(text.embeddings.token_embedding.weight.shape[1])


def _zeroed(one: Conditioning) -> Conditioning:
    """SDXL was trained to see zeros where there is no negative prompt."""
    pooled = None if one.pooled is None else torch.zeros_like(one.pooled)
    return replace(one, context=torch.zeros_like(one.context), pooled=pooled)
