"""Many jobs from a file into a folder; a batch that was broken off goes on where it was.

`OUT/batch.jsonl` gets a line for every row that is done. A row is known by its place and its content, so that rows may be added
or mended between two runs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danqing.client.drawing import draw, fetch, picture_text
from danqing.client.http import Server
from danqing.errors import DanqingError

RECORD = "batch.jsonl"

TEXTS = frozenset(
    [
        "kind",
        "prompt",
        "negative_prompt",
        "sampler_name",
        "sampler_index",
        "scheduler",
        "refiner_checkpoint",
        "script_name",
        "infotext",
        "hr_upscaler",
        "hr_checkpoint_name",
        "hr_sampler_name",
        "hr_scheduler",
        "hr_prompt",
        "hr_negative_prompt",
        "image",
        "mask",
    ]
)
"""Columns of a CSV that are text even when they look like a number."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: its line (from 1) and the fields of POST /v1/jobs."""

    line: int
    fields: dict[str, Any]

    @property
    def key(self) -> str:
        """Known again by this."""
        text = json.dumps([self.line, self.fields], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(slots=True)
class Outcome:
    """What became of a batch."""

    done: int = 0
    skipped: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Line and sentence."""

    def as_dict(self) -> dict[str, Any]:
        failed = [{"line": line, "error": text} for line, text in self.failed]
        return {"done": self.done, "skipped": self.skipped, "failed": failed}


def rows_of(path: Path, common: dict[str, Any]) -> list[Row]:
    """The rows of a .csv (first line: names of fields), a .jsonl or a text file (a prompt a line).

    Args:
        common: fields that every row has unless it says otherwise.

    Raises:
        DanqingError: `cannot_read`, `bad_row`.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl}
    try:
        found = list(readers.get(path.suffix.lower(), _text)(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DanqingError("cannot_read", path=str(path), reason=reason) from None
    return [_row(path, line, {**common, **fields}) for line, fields in found]


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for values in reader:
            if None in values:
                raise DanqingError(
                    "bad_row", path=str(path), line=reader.line_num, reason="more cells than the first line"
                )
            yield reader.line_num, {name: _value(name, text) for name, text in values.items() if text not in (None, "")}


def _value(name: str, text: str) -> Any:
    if name in TEXTS:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            raise DanqingError("bad_row", path=str(path), line=line, reason=str(error)) from None
        if not isinstance(value, dict):
            raise DanqingError("bad_row", path=str(path), line=line, reason="an object is wanted, {…}")
        yield line, value


def _text(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if text.strip():
            yield line, {"prompt": text.strip()}


def _row(path: Path, line: int, fields: dict[str, Any]) -> Row:
    """Names of picture files, relative to the table, become pictures."""
    if not isinstance(fields.get("prompt", ""), str):
        raise DanqingError("bad_row", path=str(path), line=line, reason="prompt is no text")
    if image := fields.pop("image", None):
        fields["init_images"] = [picture_text(path.parent / str(image))]
        if mask := fields.pop("mask", None):
            fields["mask"] = picture_text(path.parent / str(mask))
    return Row(line, {"kind": "img2img" if image else "txt2img", **fields})


class Batch:
    """A run over some rows.

    Args:
        out: the folder; made when missing.
        parallel: jobs at the server at once.
    """

    def __init__(self, server: Server, out: Path, parallel: int) -> None:
        self.server, self.out, self.parallel = server, out, parallel
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, rows: list[Row]) -> Outcome:
        """Draw what is not drawn yet. A row that fails is told of and leaves the others alone.

        Raises:
            DanqingError: `cannot_write`; `server_unreachable`, when the server has been silent for too long.
        """
        outcome, known = Outcome(), self._known()
        wanted = [row for row in rows if not self._is_done(known, row)]
        outcome.skipped = len(rows) - len(wanted)
        with ThreadPoolExecutor(self.parallel) as pool:
            futures = {pool.submit(self._one, row): row for row in wanted}
            try:
                for future in as_completed(futures):
                    self._count(outcome, futures[future], future.exception())
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        outcome.failed.sort()
        return outcome

    def _count(self, outcome: Outcome, row: Row, error: BaseException | None) -> None:
        if error is None:
            outcome.done += 1
        elif isinstance(error, DanqingError) and error.code in ("server_refused", "job_failed"):
            outcome.failed.append((row.line, str(error)))
        else:
            raise error

    def _known(self) -> dict[str, list[str]]:
        """Files of the rows that are done, by key."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            text = (self.out / RECORD).read_text("utf-8") if (self.out / RECORD).is_file() else ""
        except OSError as error:
            raise DanqingError("cannot_write", path=str(self.out), reason=error.strerror or str(error)) from None
        found = {}
        for line in text.splitlines():
            try:
                told = json.loads(line)
                found[str(told["key"])] = [str(name) for name in told["images"]]
            except (ValueError, KeyError, TypeError):
                # The last line of a run that was cut off: its row is drawn again.
                continue
        return found

    def _is_done(self, known: dict[str, list[str]], row: Row) -> bool:
        return row.key in known and all((self.out / name).is_file() for name in known[row.key])

    def _one(self, row: Row) -> None:
        job = draw(self.server, row.fields, self._watch, row.key)
        paths = fetch(self.server, job, lambda place: self.out / f"{row.line:05d}-{place + 1}.png")
        told = {"line": row.line, "key": row.key, "job": job["id"], "seed": job["seed"]}
        with self._lock, (self.out / RECORD).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**told, "images": [path.name for path in paths]}) + "\n")

    def _watch(self, job: dict[str, Any]) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
