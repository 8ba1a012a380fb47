"""Tags of extra networks in a prompt: `<lora:name:0.8>`, `<hypernet:name:1>` (spec 6.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TAG = re.compile(r"<(\w+):([^>]+)>")


@dataclass(frozen=True, slots=True)
class NetworkTag:
    """`<kind:positional:...:name=value>`."""

    kind: str
    positional: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)


def network_tags(prompt: str) -> list[NetworkTag]:
    """The tags of a positive prompt, in order."""
    return [_tag(match[1], match[2]) for match in _TAG.finditer(prompt)]


def without_tags(prompt: str) -> str:
    """The prompt with every tag taken out; the blanks round it stay."""
    return _TAG.sub("", prompt)


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
