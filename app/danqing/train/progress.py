"""The record of a training: one JSON object a line, only ever appended. No torch.

After a kill the steps since the last saved state are done again and stand there twice; the later line counts.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

Event = Literal["sample", "saved", "paused", "resumed", "note"]


class Row(TypedDict):
    """`loss` and `rate` of a step that is done; rows with an `event` tell of something else. `seconds`: spent in all."""

    step: int
    steps: int
    loss: NotRequired[float]
    rate: NotRequired[float]
    seconds: NotRequired[float]
    event: NotRequired[Event]
    files: NotRequired[list[str]]
    note: NotRequired[str]
    code: NotRequired[str]
    values: NotRequired[dict[str, Any]]


class Recorder:
    """Appends rows to a file. A line that a kill has torn is cut off first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _drop_torn_line(path)

    def append(self, row: Row) -> None:
        """Write one line in one call.

        Raises:
            OSError: no room; nothing of the line stays.
        """
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if written < len(line):
            _drop_torn_line(self._path)
            raise OSError(28, os.strerror(28))


def _drop_torn_line(path: Path) -> None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def read(path: Path, since: int = 0) -> list[Row]:
    """The rows from number `since` on; a line that is still being written is left out."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [row for line in lines[since:] if (row := _row(line)) is not None]


def _row(line: bytes) -> Row | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return cast(Row, found) if isinstance(found, dict) else None


def losses(rows: Iterable[Row]) -> dict[int, float]:
    """Step → loss, of a step that was done twice the later one, in the order of steps."""
    found = {row["step"]: row["loss"] for row in rows if "loss" in row and math.isfinite(row["loss"])}
    return dict(sorted(found.items()))
