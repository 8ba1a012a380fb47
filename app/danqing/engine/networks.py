"""What the network tags of a prompt mean: `<lora:name:te:unet:dyn>` and `<hypernet:name:strength>` to adapters. No tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from danqing.engine.calls import Adapter, Adapters
from danqing.errors import DanqingError
from danqing.library.networks import Network, Networks

KINDS = {"lora": "lora", "lyco": "lora", "hypernet": "hypernet"}
"""The tags' words and the kinds of networks; lyco is the name that LyCORIS files once had a tag of their own by."""

NONE = "None"
"""The option's word for no network."""


class Tag(Protocol):
    """A tag of a prompt, `<kind:positional:…:name=value>`."""

    @property
    def kind(self) -> str: ...
    @property
    def positional(self) -> Sequence[str]: ...
    @property
    def named(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a prompt's tags come to.

    adapters: in the tags' order. infotext: pairs for the picture's infotext. notes: for the owner. added: tags that the
    options put behind the prompt, which belong into its infotext as well.
    """

    adapters: Adapters = ()
    infotext: tuple[tuple[str, str], ...] = ()
    notes: tuple[DanqingError, ...] = ()
    added: str = ""


def resolve(
    tags: Iterable[Tag],
    networks: Networks,
    *,
    always_lora: str = NONE,
    always_hypernetwork: str = NONE,
    strength: float = 1.0,
) -> Resolved:
    """The adapters of a prompt's tags. An unknown name or a strength that is no number is left out, with a note.

    Args:
        always_lora: the option sd_lora, a network that every prompt gets unless it names it itself.
        always_hypernetwork: the option sd_hypernetwork, likewise.
        strength: of these two.

    Raises:
        DanqingError: `model_broken`, when a file cannot be read for its hash.
    """
    rows = [(KINDS[tag.kind], tuple(tag.positional), dict(tag.named)) for tag in tags if tag.kind in KINDS]
    added = ""
    for kind, name in (("lora", always_lora), ("hypernet", always_hypernetwork)):
        named = any(row[0] == kind and row[1][:1] == (name,) for row in rows)
        if name and name != NONE and not named and networks.find(kind, name) is not None:
            rows.append((kind, (name, str(strength)), {}))
            added += f"<{kind}:{name}:{strength}>"
    adapters: list[Adapter] = []
    hashes: dict[str, str] = {}
    notes: list[DanqingError] = []
    for kind, positional, named_values in rows:
        name = positional[0] if positional else ""
        network = networks.find(kind, name) if name else None
        adapter = None if network is None else _adapter(network, positional, named_values)
        if network is None:
            notes.append(DanqingError("network_absent", kind=kind, name=name[:100]))
        elif adapter is None:
            notes.append(DanqingError("network_strength", kind=kind, name=name[:100]))
        else:
            adapters.append(adapter)
            if kind == "lora":
                hashes[name.replace(":", "").replace(",", "")] = networks.short_hash(network)
    told = ", ".join(f"{name}: {digits}" for name, digits in hashes.items())
    infotext = (("Lora hashes", told),) if told else ()
    return Resolved(tuple(adapters), infotext, tuple(notes), added)


def _adapter(network: Network, positional: Sequence[str], named: Mapping[str, str]) -> Adapter | None:
    try:
        text = float(named.get("te", positional[1] if len(positional) > 1 else 1.0))
        unet = float(named.get("unet", positional[2] if len(positional) > 2 else text))
        rank = int(named.get("dyn", positional[3] if len(positional) > 3 else 0))
    except ValueError:
        return None
    if not (math.isfinite(text) and math.isfinite(unet)):
        return None
    if network.kind == "hypernet":
        return Adapter("hypernet", network.path, 0.0, text, network.mtime_ns)
    return Adapter("lora", network.path, text, unet, network.mtime_ns, max(rank, 0))
