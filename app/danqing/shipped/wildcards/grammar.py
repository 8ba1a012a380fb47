"""Dynamic prompts: a template and a seed give a prompt, always the same one.

`{a|b}` is one of them, `{3::a|b}` with weights, `{2$$a|b|c}` two joined by ", ", `{1-2$$ and $$a|b|c}` one or two joined by
" and ", `__name__` a line of `name.txt` (`*` stands for anything in a name). Braces without a bar are text. Everything nests.
"""

from __future__ import annotations

import fnmatch
import random
import re
from dataclasses import dataclass
from pathlib import Path

from danqing.errors import DanqingError

DEPTH = 20
"""Files that name each other in a circle end here."""
LONGEST = 20000
"""Characters of a prompt that is drawn."""
FILE_LIMIT = 4 << 20

_WILDCARD = re.compile(r"__([^\s_](?:[^\n]*?[^\s_])??)__")
_COUNT = re.compile(r"^(\d{1,4})(?:-(\d{1,4}))?\$\$(?:(.*?)\$\$)?", re.DOTALL)
_WEIGHT = re.compile(r"^\s*(\d+(?:\.\d+)?)::")


@dataclass(frozen=True, slots=True)
class Option:
    """One of several texts. `weight`: how often it is drawn, against the others."""

    text: str
    weight: float = 1.0


class Cards:
    """The files of a folder: `animals/cats.txt` is the wildcard `animals/cats`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All wildcards."""
        found = (path.relative_to(self.folder).with_suffix("") for path in self.folder.rglob("*.txt") if path.is_file())
        return sorted(path.as_posix() for path in found)

    def options(self, pattern: str) -> list[Option]:
        """The lines of every file whose name fits; empty ones and comments left out."""
        found: list[Option] = []
        for name in self.names():
            if fnmatch.fnmatchcase(name.lower(), pattern.lower()):
                found += self.read(name)
        return found

    def read(self, name: str) -> list[Option]:
        """The lines of one file."""
        try:
            with (self.folder / f"{name}.txt").open(encoding="utf-8-sig", errors="replace") as file:
                lines = file.read(FILE_LIMIT).splitlines()
        except OSError:
            return []
        texts = (line.split("#", 1)[0].strip() for line in lines)
        return [_option(text) for text in texts if text]


def is_dynamic(template: str) -> bool:
    """Whether there is anything to draw."""
    return "__" in template or ("{" in template and ("|" in template or "$$" in template))


def drawn(template: str, source: random.Random, cards: Cards, depth: int = 0) -> str:
    """A prompt of the template.

    Raises:
        DanqingError: `text_too_long`.
    """
    if depth > DEPTH:
        return ""
    made = _with_variants(template, source, cards, depth)
    made = _WILDCARD.sub(lambda match: _line(match, source, cards, depth), made)
    if len(made) > LONGEST:
        raise DanqingError("text_too_long", field="prompt", length=len(made), maximum=LONGEST)
    return made


def _line(match: re.Match[str], source: random.Random, cards: Cards, depth: int) -> str:
    options = cards.options(match[1])
    if not options:
        return match[0]
    return drawn(_pick(options, 1, source)[0].text, source, cards, depth + 1)


def _with_variants(template: str, source: random.Random, cards: Cards, depth: int) -> str:
    """The template with its outermost braces drawn; a brace that is never closed is text."""
    parts: list[str] = []
    place = 0
    while (start := template.find("{", place)) >= 0:
        end = _closing(template, start)
        if end < 0:
            break
        parts += [template[place:start], _variant(template[start + 1 : end], source, cards, depth)]
        place = end + 1
    return "".join([*parts, template[place:]])


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    return -1


def _variant(inner: str, source: random.Random, cards: Cards, depth: int) -> str:
    count = _COUNT.match(inner)
    texts = _split(inner[count.end() :] if count else inner)
    if len(texts) < 2 and not count:
        return "{" + drawn(inner, source, cards, depth + 1) + "}"
    low = int(count[1]) if count else 1
    high = int(count[2] or count[1]) if count else 1
    joined = count[3] if count and count[3] is not None else ", "
    options = [_option(text) for text in texts]
    if len(options) == 1 and (match := _WILDCARD.fullmatch(options[0].text.strip())):
        options = cards.options(match[1]) or options  # {2$$__colours__} takes two different lines
    chosen = _pick(options, source.randint(min(low, high), max(low, high)), source)
    return joined.join(drawn(one.text, source, cards, depth + 1) for one in chosen)


def _split(text: str) -> list[str]:
    """At the bars that are in no inner braces."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if letter == "|" and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _option(text: str) -> Option:
    match = _WEIGHT.match(text)
    return Option(text[match.end() :], float(match[1])) if match else Option(text)


def _pick(options: list[Option], count: int, source: random.Random) -> list[Option]:
    """So many different options, all of them when there are not more, by weight; those of weight 0 come last."""
    rest = list(options)
    chosen: list[Option] = []
    while rest and len(chosen) < count:
        weights = [one.weight for one in rest]
        place = source.choices(range(len(rest)), weights if sum(weights) > 0 else None)[0]
        chosen.append(rest.pop(place))
    return chosen
