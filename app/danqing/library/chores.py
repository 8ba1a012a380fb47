"""Long works on files, such as merging and fetching: asked for by writing a file, done by a process of their own. No torch.

A work is a folder DATA/run/chores/ID. `spec.json` says what is wanted; the runner (`danqing.library.chore`) takes it by renaming
it to `taken.json` and tells in `state.json` how far it is. A file `cancel` ends it. So a work outlives the web process, and on
a box the runner may be a service with the network that the web process does not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError

FOLDER = ("run", "chores")
KEPT = 20
"""Works that are over and still listed."""
MOST_WAITING = 20
ID = re.compile(r"\d{13}-[0-9a-f]{8}")
OVER = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Chore:
    """A work. `state`: waiting, running, done, failed, cancelled. `text` is a line of how it goes, `result` what came of it."""

    id: str
    kind: str
    title: str
    owner: str
    created: float
    state: str = "waiting"
    progress: float = 0.0
    text: str = ""
    result: str = ""
    error: dict[str, Any] = field(default_factory=dict)


def folder_of(data: Path) -> Path:
    """Where the works lie."""
    return data.joinpath(*FOLDER)


def add(data: Path, kind: str, title: str, spec: Mapping[str, Any], owner: str = "") -> Chore:
    """Ask for a work.

    Raises:
        DanqingError: `queue_full`, `disk_full`.
    """
    known = all_of(data)
    waiting = [one for one in known if one.state not in OVER]
    if len(waiting) >= MOST_WAITING:
        raise DanqingError("queue_full", count=len(waiting), maximum=MOST_WAITING)
    # Of two works of one millisecond the second stays the second.
    moment = max([time.time_ns() // 10**6, *(int(one.id[:13]) + 1 for one in known[:1])])
    chore = Chore(f"{moment}-{secrets.token_hex(4)}", kind, title[:200], owner, time.time())
    told = {"kind": kind, "title": chore.title, "owner": owner, "created": chore.created, "spec": dict(spec)}
    folder = folder_of(data) / chore.id
    try:
        folder.mkdir(parents=True)
        write(folder / "spec.json", told)
    except OSError as error:
        raise DanqingError("disk_full", free_mb=shutil.disk_usage(data).free >> 20) from error
    _sweep(data)
    return chore


def all_of(data: Path) -> list[Chore]:
    """The newest first."""
    with contextlib.suppress(OSError):
        folders = [path for path in folder_of(data).iterdir() if ID.fullmatch(path.name)]
        return [chore for path in sorted(folders, reverse=True) if (chore := _read(path)) is not None]
    return []


def find(data: Path, chore_id: str) -> Chore:
    """
    Raises:
        DanqingError: `unknown_chore`.
    """
    found = _read(folder_of(data) / chore_id) if ID.fullmatch(chore_id) else None
    if found is None:
        raise DanqingError("unknown_chore", chore=chore_id[:40])
    return found


def cancel(data: Path, chore_id: str) -> None:
    """Have it end as soon as it can; one that is over stays as it is.

    Raises:
        DanqingError: `unknown_chore`.
    """
    if find(data, chore_id).state not in OVER:
        (folder_of(data) / chore_id / "cancel").touch()


def _read(folder: Path) -> Chore | None:
    for name in ("spec.json", "taken.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads((folder / name).read_text("utf-8"))
            chore = Chore(folder.name, *(told[key] for key in ("kind", "title", "owner", "created")))
            return _with_state(chore, folder)
    return None


def _with_state(chore: Chore, folder: Path) -> Chore:
    try:
        told = json.loads((folder / "state.json").read_text("utf-8"))
        return Chore(chore.id, chore.kind, chore.title, chore.owner, chore.created, **told)
    except (OSError, ValueError, TypeError):
        return chore


def write(path: Path, told: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(told, ensure_ascii=False), "utf-8")
    part.replace(path)


def _sweep(data: Path) -> None:
    over = [one for one in all_of(data) if one.state in OVER]
    for one in over[KEPT:]:
        shutil.rmtree(folder_of(data) / one.id, ignore_errors=True)


def start_runner(data: Path) -> subprocess.Popen[bytes]:
    """A process that does what is asked for and ends; one that is running already keeps a second from doing anything."""
    command = [sys.executable, "-m", "danqing.library.chore", "--data", str(data)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def fetchable(data: Path) -> Iterator[dict[str, Any]]:
    """Every entry of the manifest that can be fetched, and whether its file is there."""
    from danqing.library.manifest import read_manifest

    for row in read_manifest().weights:
        if row.sources:
            there = (data / row.file).is_file()
            yield {
                "name": row.name,
                "kind": row.kind.value,
                "file": row.file,
                "bytes": row.bytes,
                "license": row.license,
                "groups": row.groups,
                "there": there,
            }
