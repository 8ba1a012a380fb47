"""Chinese prompts in English: a dictionary of artists' terms, applied so that weights and other syntax survive.

`terms.tsv`: Chinese, English, group; the English of particles is empty. What the dictionary does not know stays as it is, to be
seen and mended by whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


OF = "的"
"""Parts what describes from what is described."""

PLACES = {
    **{"上": "on", "里": "in", "中": "in", "内": "in", "下": "under", "外": "outside", "前": "in front of"},
    **{"后": "behind", "旁": "beside", "旁边": "beside", "上面": "on", "下面": "under", "里面": "in"},
}
"""Words that stand behind their nouns in Chinese and before them in English."""

COUNTS = {"a", "two", "three", "four", "five", "several", "many", "a pair of", "a group of", "some"}

_BEHIND = re.compile(r"(?:\w+ing|in|on|under|behind|beside|outside|from|with|full of|covered with)\b(?! \w+ light)")


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


def unknown_runs(prompt: str) -> list[str]:
    """Runs of Chinese characters in which the dictionary leaves something untranslated, each once."""
    runs = _RUN.findall(prompt.translate(_SIGNS)) if has_chinese(prompt) else []
    chinese = dict.fromkeys(run for run in runs if has_chinese(run) and not run.startswith("<"))
    return [run for run in chinese if has_chinese(_words(run))]


def translated(prompt: str, known: Mapping[str, str] | None = None) -> str:
    """The prompt with every Chinese run put into English, word by word, the longest term first.

    Brackets, weights, schedules and `<lora:...>` tags stay; Chinese punctuation becomes the prompt language's.

    Args:
        known: whole runs in English, for those of `unknown_runs`.
    """
    if not has_chinese(prompt):
        return prompt
    parts: list[str] = []
    for run in _RUN.findall(prompt.translate(_SIGNS)):
        if not has_chinese(run) or run.startswith("<"):
            parts.append(run)
            continue
        english = _words(run)
        if has_chinese(english):
            english = (known or {}).get(run, english)
        if english and parts and re.search(r"[A-Za-z0-9]$", parts[-1]):
            parts.append(" ")
        parts.append(english)
    return _tidied("".join(parts))


def _words(run: str) -> str:
    """A run in English: places before their nouns, and what describes somebody by an action or a place behind them."""
    clauses: list[list[str]] = [[]]
    for word in _segments(run):
        if word == OF:
            clauses.append([])
        else:
            clauses[-1].append(word)
    text = " ".join(word for word in _joined([_placed(clause) for clause in clauses]) if word)
    # Characters that nobody knew stay together.
    return re.sub(rf"(?<=[{CHINESE}]) (?=[{CHINESE}])", "", text)


def _segments(run: str) -> list[str]:
    """The Chinese words of a run, the longest known one first; a character that is in none is a word."""
    known, words, at = _by_chinese(), list[str](), 0
    while at < len(run):
        sizes = range(min(_longest(), len(run) - at), 0, -1)
        size = next((size for size in sizes if run[at : at + size] in known), 1)
        words.append(run[at : at + size])
        at += size
    return words


def _placed(words: list[str]) -> list[str]:
    """Words in English; "在 N 上" and "N 上" become "on N"."""
    known, out = _by_chinese(), list[str]()
    for word in words:
        if word in PLACES and out:
            if len(out) > 1 and out[-2] in ("in", PLACES[word]):
                out[-2] = PLACES[word]
            elif len(out) > 1 and out[-2].endswith((" on", " in")):
                out[-2] = f"{out[-2][:-3]} {PLACES[word]}"
            else:
                out.insert(-1, PLACES[word])
            continue
        out += [english] if (english := known.get(word, word)) else []
    return out


def _joined(clauses: list[list[str]]) -> list[str]:
    """Clauses that 的 parted: actions and places go behind the word that they describe, the rest stays before it."""
    out = clauses[-1]
    for clause in reversed(clauses[:-1]):
        count = clause[:1] if clause and clause[0] in COUNTS else []
        rest = clause[len(count) :]
        if rest and out and (_BEHIND.match(rest[0]) and (len(rest) > 1 or " " in rest[0])):
            end = next((at for at, word in enumerate(out) if at and _BEHIND.match(word)), len(out))
            out = [*count, *out[:end], *rest, *out[end:]]
        else:
            out = [*count, *rest, *out]
    return out


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
