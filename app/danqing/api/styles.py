"""The styles file, `DATA/styles.csv`: name, prompt, negative_prompt."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

SIZE_LIMIT = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Style:
    name: str
    prompt: str
    negative_prompt: str


def read_styles(data: Path) -> list[Style]:
    """The styles in the file's order; none when there is no file or it cannot be read. An old header says `text`."""
    file = data / "styles.csv"
    try:
        if file.stat().st_size > SIZE_LIMIT:
            return []
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [
        Style(row["name"], row.get("prompt") or row.get("text") or "", row.get("negative_prompt") or "")
        for row in rows
        if row.get("name")
    ]
