"""Styles: prompts with names, kept in `DATA/styles.csv` (name, prompt, negative_prompt) as the WebUI keeps them."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from danqing.errors import DanqingError

SIZE_LIMIT = 4 * 2**20
"""Bytes of a styles file."""

PLACE = "{prompt}"
"""What a style's text replaces with the prompt."""

FIELDS = ("name", "prompt", "negative_prompt")
HOUSE = ("", "local")
"""Owners who have no styles of their own."""

ENCODINGS = ("utf-8-sig", "gb18030")
"""Tried in order: spreadsheets on a Chinese Windows write the second."""


@dataclass(frozen=True, slots=True)
class Style:
    """A style. `divider`: a heading that parts several files in a list, and is no style."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""
    divider: bool = False


def read_styles(data: Path, patterns: Sequence[str] = ("styles.csv",)) -> list[Style]:
    """The styles under a data root, in the order of the files' lines; of several of one name the last counts.

    Args:
        patterns: files below `data`, in which `*` stands for anything. With more than one file each begins with a divider.
    """
    paths = list(dict.fromkeys(path for pattern in patterns for path in _files(data, pattern)))
    found: dict[str, Style] = {}
    for path in paths:
        if len(paths) > 1:
            heading = f" {path.stem.upper()} ".center(40, "-")
            found[heading] = Style(heading, divider=True)
        found.update((style.name, style) for style in read_file(path))
    return list(found.values())


def own_file(data: Path, owner: str) -> Path:
    """Where an owner keeps styles; those of "local", who is alone, and of nobody are the house's."""
    return data / "styles" / f"{quote(owner, safe='')}.csv" if owner not in HOUSE else data / "styles.csv"


def styles_of(data: Path, owner: str) -> list[Style]:
    """The house's styles and the owner's own, which count where both have a name."""
    found = {style.name: style for style in read_styles(data)}
    if owner not in HOUSE:
        found.update((style.name, style) for style in read_file(own_file(data, owner)))
    return list(found.values())


def read_file(path: Path) -> list[Style]:
    """The styles of one file; none when it is not there or cannot be read. Names that begin with `#` are comments."""
    return [_style(row) for row in _rows(path) if row.get("name") and not row["name"].startswith("#")]


def save_styles(path: Path, styles: Iterable[Style]) -> None:
    """Write the styles of one file, keeping its comments and, as `.bak`, what was there before.

    Raises:
        OSError: the disk is full or the file cannot be written; the old file is still whole then.
    """
    comments = [_style(row) for row in _rows(path) if row.get("name", "").startswith("#")]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for style in (*comments, *styles):
        if not style.divider:
            writer.writerow((style.name, style.prompt, style.negative_prompt))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.getvalue().encode("utf-8-sig"))
        if path.exists():
            shutil.copy2(path, path.with_name(f"{path.name}.bak"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def apply_styles(prompt: str, texts: Iterable[str], limit: int, field: str = "prompt") -> str:
    """The prompt with the texts of styles put to it, one after the other.

    A text with `{prompt}` takes the prompt in; what stands for a prompt in the outcome is not looked for again in the same
    text, so no style can go round in a circle.

    Raises:
        DanqingError: `text_too_long`, when styles that repeat the prompt make it longer than `limit`.
    """
    for text in texts:
        grown = len(text) + text.count(PLACE) * len(prompt)
        if grown > limit + len(PLACE) * text.count(PLACE) and PLACE in text:
            raise DanqingError("text_too_long", field=field, length=grown, maximum=limit)
        prompt = _merged(text, prompt)
    return prompt


def styled(
    prompt: str, negative_prompt: str, names: Iterable[str], styles: Iterable[Style], limit: int
) -> tuple[str, str]:
    """Both prompts with the styles of these names, in the order of the names; unknown names have no effect.

    Raises:
        DanqingError: as `apply_styles`.
    """
    chosen = _chosen(names, styles)
    return (
        apply_styles(prompt, [style.prompt for style in chosen], limit),
        apply_styles(negative_prompt, [style.negative_prompt for style in chosen], limit, "negative_prompt"),
    )


def texts_of(style: Style) -> dict[str, str]:
    """What a style says of each prompt, for a script that makes prompts."""
    return {"prompt": style.prompt, "negative_prompt": style.negative_prompt}


def for_script(args: Mapping[str, object], names: Iterable[str], styles: Iterable[Style]) -> dict[str, Any]:
    """The styles of a script with these arguments: those of the names, in their order, and all where an axis names more."""
    known = [style for style in styles if not style.divider]
    found: dict[str, Any] = {"styles": [texts_of(style) for style in _chosen(names, known)]}
    if "styles" in (str(args.get(f"{letter}_type")).lower() for letter in "xyz"):
        found["shelf"] = {style.name: texts_of(style) for style in known}
    return found


def _chosen(names: Iterable[str], styles: Iterable[Style]) -> list[Style]:
    by_name = {style.name: style for style in styles if not style.divider}
    return [by_name[name] for name in names if name in by_name]


def extract_styles(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[list[str], str, str]:
    """The styles that both prompts end with (or stand within), in the order of applying, and the prompts without them.

    A style is taken once at most; what it does not say about one of the prompts fits any.
    """
    left = [style for style in styles if not style.divider and (style.prompt or style.negative_prompt)]
    names: list[str] = []
    while True:
        for style in left:
            positive = _without(style.prompt, prompt)
            negative = _without(style.negative_prompt, negative_prompt)
            if positive is not None and negative is not None:
                prompt, negative_prompt = positive, negative
                names.insert(0, style.name)
                left.remove(style)
                break
        else:
            return names, prompt, negative_prompt


def _merged(text: str, prompt: str) -> str:
    if PLACE in text:
        return text.replace(PLACE, prompt)
    return ", ".join(part for part in (prompt.strip(), text.strip()) if part)


def _without(text: str, prompt: str) -> str | None:
    """The prompt as it was before the style's text came to it; None when it does not show the text."""
    text, stripped = text.strip(), prompt.strip()
    before, place, after = text.partition(PLACE)
    if place:
        fits = stripped.startswith(before) and stripped.endswith(after) and len(stripped) >= len(before) + len(after)
        return stripped[len(before) : len(stripped) - len(after)] if fits else None
    if not stripped.endswith(text):
        return None
    return stripped[: len(stripped) - len(text)].removesuffix(", ") if text else prompt


def _files(data: Path, pattern: str) -> list[Path]:
    if "*" in pattern and not Path(pattern).is_absolute() and ".." not in Path(pattern).parts:
        return sorted(data.glob(pattern))
    return [data / pattern]


def _style(row: dict[str, str]) -> Style:
    return Style(row["name"], row.get("prompt") or row.get("text") or "", row.get("negative_prompt") or "")


def _rows(path: Path) -> list[dict[str, str]]:
    """The lines of a file as tables; an old header says `text` for `prompt`."""
    try:
        if path.stat().st_size > SIZE_LIMIT:
            return []
        raw = path.read_bytes()
    except OSError:
        return []
    for encoding in ENCODINGS:
        try:
            return list(csv.DictReader(io.StringIO(raw.decode(encoding), newline="")))
        except (UnicodeDecodeError, csv.Error):
            continue
    return []
