"""Cuts a plan's call into parts that the scheduler may put into one forward pass with others'."""

from __future__ import annotations

from typing import Any

from danqing.engine.calls import Call, Decode, Denoise, Encode, EncodeImage, Enlarge
from danqing.engine.scheduler import BatchKey, Kind, Part


def parts_of(call: Call, owner: Any, order: int) -> list[Part]:
    """A call as parts that may each run in another forward.

    Rows of one `Denoise` with conditionings of different lengths become parts of their own.
    """
    match call:
        case Encode():
            key = BatchKey(
                Kind.ENCODE, call.model.key, clip_skip=call.clip_skip, adapters=call.adapters, manner=(call.tiling,)
            )
            return [Part(key, sum(len(prompt) for prompt in call.prompts), order, call, owner)]
        case Decode():
            _, height, width = call.latent.shape
            manner = (call.tiling, call.tile)
            return [Part(BatchKey(Kind.DECODE, call.model.key, height, width, manner=manner), 1, order, call, owner)]
        case EncodeImage():
            height, width, _ = call.pixels.shape
            beyond = (call.tiling, call.tile, height % 8, width % 8)
            key = BatchKey(Kind.ENCODE_IMAGE, call.model.key, height // 8, width // 8, manner=beyond)
            return [Part(key, 1, order, call, owner)]
        case Enlarge():
            height, width, _ = call.pixels.shape
            return [Part(BatchKey(Kind.ENLARGE, call.path, height, width), 1, order, call, owner)]
        case Denoise():
            return _row_parts(call, owner, order)
    raise TypeError(f"no network runs {type(call).__name__}")


def _row_parts(call: Denoise, owner: Any, order: int) -> list[Part]:
    parts: list[Part] = []
    for row in call.rows:
        _, height, width = row.x.shape
        manner = (call.tiling, call.merging, call.caching, tuple(hint.key for hint in row.control))
        key = BatchKey(
            Kind.DENOISE,
            call.model.key,
            height,
            width,
            tokens=row.context.shape[0],
            adapters=call.adapters,
            manner=manner,
        )
        if parts and parts[-1].key == key:
            parts[-1].payload[1].append(row)
            parts[-1].rows += 1
        else:
            parts.append(Part(key, 1, order, (call, [row]), owner, slot=len(parts)))
    return parts
