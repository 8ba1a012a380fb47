"""Words that the owner of the box does not allow in prompts.

Entries are words or phrases, separated by commas or lines. One of letters must stand in the prompt as whole words, in any case;
one with Chinese, Japanese or Korean characters, which are written without spaces, anywhere, also with punctuation between.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.request import GenerateRequest
from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "prompt_blocklist",
        "",
        "Words and phrases, with commas between, that no prompt may hold; more of them, one a line, in DATA/blocklist.txt. "
        "Empty: every prompt is drawn.",
        "禁止出现在提示词中的词语，以逗号分隔；DATA/blocklist.txt 中可每行再写一个。空表示不限制。",
    ),
)

FILE = "blocklist.txt"
"""Below the data folder: more entries, one a line; what stands behind # is a remark."""

CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_EMPHASIS = re.compile(r"[()\[\]{}\\]|:\s*-?\d+(\.\d+)?(?=[)\]])")
"""How the prompt language weighs words: "(c)at" and "(cat:1.2)" are read as "cat"."""

_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufeff]")


class BlockList:
    """The entries of a setting and of the data folder's file, which is read again when it has changed."""

    def __init__(self, listed: str, data: Path) -> None:
        self._listed, self._file = listed, data / FILE
        self._read: tuple[int, str] = (0, "")

    def check(self, request: GenerateRequest) -> None:
        """
        Raises:
            DanqingError: `prompt_blocked`, with the entry that was found. Negative prompts are not looked at: there people
                name what they do not want to see.
        """
        pattern, joined = _patterns(self._listed, self._more())
        if pattern is None and joined is None:
            return
        for text in _texts(request):
            for plain in {_plain(text), _plain(_EMPHASIS.sub("", text))}:
                found = (pattern.search(plain) if pattern else None) or (
                    joined.search(_dense(plain)) if joined else None
                )
                if found:
                    raise DanqingError("prompt_blocked", word=found[0])

    def _more(self) -> str:
        try:
            stamp = self._file.stat().st_mtime_ns
            if stamp != self._read[0]:
                self._read = (stamp, self._file.read_text("utf-8", "replace"))
        except FileNotFoundError:
            return ""
        return self._read[1]


def _plain(text: str) -> str:
    """Compatible forms are one, case does not count, spaces are single."""
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().split())


def _dense(text: str) -> str:
    """Letters, digits and ideographs alone."""
    return "".join(sign for sign in text if sign.isalnum())


@lru_cache(maxsize=4)
def _patterns(listed: str, file: str) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Of words, which have boundaries, and of those that have none."""
    lines = (line.partition("#")[0] for line in file.splitlines())
    entries = {_plain(entry) for entry in re.split(r"[,，、\n]", "\n".join((listed, *lines)))} - {""}
    words = sorted((entry for entry in entries if not CJK.search(entry)), key=len, reverse=True)
    joined = sorted((_dense(entry) for entry in entries if CJK.search(entry)), key=len, reverse=True)
    # Not `\b`: an underscore stands between the words of a tag, and a word may stand between ideographs.
    bounded = "|".join(r"[\s_]+".join(re.escape(part) for part in re.split(r"[\s_]+", word)) for word in words)
    signs = CJK.pattern
    return (
        re.compile(rf"(?:(?<![^\W_])|(?<={signs}))(?:{bounded})(?:(?![^\W_])|(?={signs}))") if words else None,
        re.compile("|".join(map(re.escape, joined))) if joined else None,
    )


def _texts(request: GenerateRequest) -> Iterator[str]:
    """Everything of a request that may become a prompt."""
    yield request.prompt
    if request.hires is not None:
        yield from _strings(request.hires.model_dump())
    if request.script is not None:
        yield from _strings(request.script.model_dump())
    yield from _strings(request.plugins)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if "negative" not in str(name):
                yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
