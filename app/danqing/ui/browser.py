"""The browser of LoRAs, embeddings and hypernetworks: cards that put their tags into the prompt. Blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.library.embeddings import Embeddings
from danqing.library.networks import Network, Networks
from danqing.ui.pages import preview_address
from danqing.ui.words import say

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.ui.context import UiContext

KINDS = ("lora", "embedding", "hypernet")
WEIGHT = 1.0
"""Of a tag where the file beside the network asks for no other."""


@dataclass(frozen=True, slots=True)
class Card:
    """A network. `tag`: what a click puts into the prompt; `words`: what its trainer says calls it up; `picture`: address of
    the picture beside it."""

    kind: str
    name: str
    tag: str
    words: str = ""
    picture: str = ""


@cache
def _shelves(data: Path) -> tuple[Networks, Embeddings]:
    """Kept, because they remember what they have read of each file."""
    return Networks(data), Embeddings(data)


def cards(context: UiContext) -> list[Card]:
    """All networks and embeddings on disk."""
    networks, embeddings = _shelves(context.data)
    data = context.data
    found = [_card(data, "lora", one) for one in networks.loras()]
    found += [
        Card("embedding", one.name, one.name, picture=preview_address(data, "embedding", one.path))
        for one in embeddings.all()
    ]
    return found + [_card(data, "hypernet", one) for one in networks.hypernetworks()]


def _card(data: Path, kind: str, network: Network) -> Card:
    told = network.user_metadata()
    weight = told.get("preferred weight")
    weight = weight if isinstance(weight, int | float) and weight else WEIGHT
    words = told.get("activation text")
    tag, words = f"<{kind}:{network.name}:{weight:g}>", words if isinstance(words, str) else ""
    return Card(kind, network.name, tag, words, preview_address(data, kind, network.path))


def html(context: UiContext, language: Language) -> str:
    """The cards by kind, with a box to search in."""
    found = cards(context)
    parts = [f'<input type="search" data-find=".dq-card" placeholder="{escape(say("browse_search", language))}">']
    for kind in KINDS:
        rows = [card for card in found if card.kind == kind]
        inner = "".join(map(_html, rows)) or f'<p class="dq-none">{escape(say("browse_none", language))}</p>'
        parts.append(f'<h3>{escape(say(f"kind_{kind}", language))}</h3><div class="dq-cards">{inner}</div>')
    return "".join(parts)


def _html(card: Card) -> str:
    more = f"<small>{escape(card.words)}</small>" if card.words else ""
    image = f'<img src="{escape(card.picture)}" alt="{escape(card.name)}" loading="lazy">' if card.picture else ""
    return (
        f'<button type="button" class="dq-card" data-insert="{escape(card.tag)}" data-words="{escape(card.words)}">'
        f"{image}<span>{escape(card.name)}</span>{more}</button>"
    )
