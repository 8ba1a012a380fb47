"""Chinese prompts in English: a dictionary of artists' terms, applied so that weights and other syntax survive.

`terms.tsv`: Chinese, English, group; the English of particles is empty. What the dictionary does not know stays as it is, to be
seen and mended by whoever wrote it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("terms.tsv")
CHINESE = r"\u3400-\u4dbf\u4e00-\u9fff"

_RUN = re.compile(rf"<[^<>]*>|[{CHINESE}]+|[^{CHINESE}<]+|<")
_HAS = re.compile(rf"[{CHINESE}]")
_SIGNS = str.maketrans(
    {
        **{"，": ", ", "、": ", ", "。": ", ", "；": ", ", "！": ", ", "？": ", "},
        **{
            "（": "(",
            "）": ")",
            "：": ":",
            "【": "[",
            "】": "]",
            "｜": "|",
            "．": ".",
            "＜": "<",
            "＞": ">",
            "\u3000": " ",
        },
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
    }
)


@dataclass(frozen=True, slots=True)
class Term:
    """A line of the dictionary."""

    zh: str
    en: str
    group: str


@cache
def terms() -> tuple[Term, ...]:
    """The dictionary in the file's order."""
    rows = (line.split("\t") for line in FILE.read_text("utf-8").splitlines() if line and not line.startswith("#"))
    return tuple(Term(zh, en, group) for zh, en, group in rows)


@cache
def _by_chinese() -> dict[str, str]:
    found: dict[str, str] = {}
    for term in terms():
        found.setdefault(term.zh, term.en)
    return found


@cache
def _longest() -> int:
    return max(len(zh) for zh in _by_chinese())


def has_chinese(text: str) -> bool:
    """Whether any Chinese character stands in the text."""
    return bool(_HAS.search(text))


def translated(prompt: str) -> str:
    """The prompt with every Chinese run put into English, word by word, the longest term first.

    Brackets, weights, schedules and `<lora:...>` tags stay; Chinese punctuation becomes the prompt language's.
    """
    if not has_chinese(prompt):
        return prompt
    parts: list[str] = []
    for run in _RUN.findall(prompt.translate(_SIGNS)):
        if not has_chinese(run) or run.startswith("<"):
            parts.append(run)
            continue
        english = _words(run)
        if english and parts and re.search(r"[A-Za-z0-9]$", parts[-1]):
            parts.append(" ")
        parts.append(english)
    return _tidied("".join(parts))


def _words(run: str) -> str:
    known, words, at = _by_chinese(), list[str](), 0
    while at < len(run):
        for length in range(min(_longest(), len(run) - at), 0, -1):
            word = known.get(run[at : at + length])
            if word is not None:
                words += [word] if word else []
                at += length
                break
        else:
            words.append(run[at])
            at += 1
    text = " ".join(words)
    # Characters that nobody knew stay together.
    return re.sub(rf"(?<=[{CHINESE}]) (?=[{CHINESE}])", "", text)


def _tidied(text: str) -> str:
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    text = re.sub(r"[ \t]+,", ",", text)
    text = re.sub(r",(?:[ \t]*,)+", ",", text)
    return re.sub(r"[ \t]{2,}", " ", text).strip().strip(",").strip()


def matching(text: str, limit: int = 12) -> list[Term]:
    """Terms for completion: those that begin with `text` in either language, then those that contain it."""
    wanted = text.strip().lower()
    if not wanted:
        return []
    rows = [term for term in terms() if term.en and (wanted in term.zh or wanted in term.en)]
    rows.sort(key=lambda term: (not (term.zh.startswith(wanted) or term.en.startswith(wanted)), len(term.zh)))
    return rows[:limit]
