"""Tags of extra networks in a prompt: `<lora:name:0.8>`, `<hypernet:name:1>` (spec 6.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BEGIN = re.compile(r"<(\w+):(?!>)")


@dataclass(frozen=True, slots=True)
class NetworkTag:
    """`<kind:positional:...:name=value>`."""

    kind: str
    positional: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a tag stands in a prompt, and its two parts."""

    start: int
    end: int
    kind: str
    args: str


def network_tags(prompt: str) -> list[NetworkTag]:
    """The tags of a positive prompt, in order."""
    return [_tag(found.kind, found.args) for found in _tags(prompt)]


def without_tags(prompt: str) -> str:
    """The prompt with every tag taken out; the blanks round it stay."""
    kept, at = [], 0
    for found in _tags(prompt):
        kept.append(prompt[at : found.start])
        at = found.end
    return "".join(kept) + prompt[at:]


def _tags(prompt: str) -> Iterator[_Found]:
    """Each tag reaches to the next `>`. Not one expression: a prompt full of tags that never end would take for ever."""
    at = 0
    while (match := _BEGIN.search(prompt, at)) is not None:
        end = prompt.find(">", match.end())
        if end < 0:
            return
        yield _Found(match.start(), end + 1, match[1], prompt[match.end() : end])
        at = end + 1


def _tag(kind: str, args: str) -> NetworkTag:
    positional: list[str] = []
    named: dict[str, str] = {}
    for arg in args.split(":"):
        key, is_, value = arg.partition("=")
        if is_:
            named[key] = value
        else:
            positional.append(arg)
    return NetworkTag(kind, tuple(positional), named)
