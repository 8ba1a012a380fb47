"""Does the works of `chores`, one after the other: `python -m danqing.library.chore --data DIR`. Ends when none is left.

Its standard input is a rope: where that is a pipe and its other end is let go, the runner ends too, so that it does not outlive
the web process that started it. What it was doing is begun again by the next runner.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError
from danqing.library import chores

TELL_SECONDS = 0.2
NICE = 10


class CancelledError(Exception):
    """Somebody asked for an end."""


@dataclass(slots=True)
class Teller:
    """Writes how far a work is, and says when it is to end."""

    folder: Path
    told: float = 0.0
    state: dict[str, Any] = field(default_factory=lambda: {"state": "running"})

    def __call__(self, progress: float, text: str = "") -> None:
        """
        Raises:
            CancelledError: it is to end.
        """
        if (self.folder / "cancel").exists():
            raise CancelledError
        self.state["progress"] = round(min(1.0, progress), 4)
        if text:
            self.state["text"] = text[:300]
        if time.monotonic() - self.told >= TELL_SECONDS:
            self.told = time.monotonic()
            chores.write(self.folder / "state.json", self.state)

    def end(self, state: str, **more: Any) -> None:
        """The last word."""
        chores.write(self.folder / "state.json", {**self.state, "state": state, **more})


Work = Callable[[Path, dict[str, Any], Teller], str]


def merge(data: Path, spec: dict[str, Any], tell: Teller) -> str:
    """Merge checkpoints; the name of the new one."""
    from danqing.library import merge as merging
    from danqing.library.index import Library
    from danqing.library.vaes import vae_files

    library = Library(data)
    sources = []
    for place, name in enumerate(name for name in (spec["a"], spec["b"], spec["c"]) if name):
        tell(0.02 * place, str(name))
        found = library.hashed(library.closest(name))
        sources.append(merging.Source(found.filename, found.name, found.sha256 or "", found.config))
    files = vae_files(data, library)
    recipe = merging.Recipe(
        method=spec["method"],
        primary=sources[0],
        secondary=sources[1] if len(sources) > 1 else None,
        tertiary=sources[2] if len(sources) > 2 else None,
        multiplier=float(spec["multiplier"]),
        precision=spec["precision"],
        vae=files[spec["vae"]] if spec["vae"] else None,
        discard=spec["discard"],
        config_from=spec["config"],
        copy_metadata=bool(spec["copy_metadata"]),
        record=bool(spec["record"]),
    )
    target = library.folder / f"{spec['name'] or recipe.default_name}.safetensors"
    merging.merge(recipe, target, tell=lambda share: tell(0.1 + 0.9 * share))
    return target.name


def fetch(data: Path, spec: dict[str, Any], tell: Teller) -> str:
    """Fetch files of the manifest; their names. How far it is, is read off the files that grow."""
    from danqing.library import fetch as fetching
    from danqing.library.manifest import read_manifest

    rows = [row for row in read_manifest().weights if row.name in spec["names"] and row.sources]
    place = fetching.Place(data, spec.get("hub", ""), spec.get("bucket", ""))
    total, failure, said = sum(row.bytes for row in rows), list[BaseException](), list[str]()

    def work() -> None:
        try:
            fetching.fetch(rows, place, said.append)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(TELL_SECONDS)
        got = sum(min(row.bytes, _size(place.target(row), fetching.part_of(row, place))) for row in rows)
        tell(got / max(1, total), said[-1] if said else "")
    if failure:
        raise failure[0]
    return ", ".join(row.name for row in rows)


def _size(*paths: Path) -> int:
    for path in paths:
        with contextlib.suppress(OSError):
            return path.stat().st_size
    return 0


WORKS: dict[str, Work] = {"merge": merge, "fetch": fetch}


def do(data: Path, folder: Path) -> None:
    """One work, to its end."""
    tell = Teller(folder)
    try:
        told = json.loads((folder / "taken.json").read_text("utf-8"))
        tell(0.0)
        tell.end("running")
        tell.end("done", result=WORKS[told["kind"]](data, told["spec"], tell), progress=1.0)
    except CancelledError:
        tell.end("cancelled")
    except DanqingError as error:
        tell.end("failed", error=error.as_dict())
    except Exception as error:  # noqa: BLE001 - the runner goes on with the next
        named = DanqingError("internal", reference=f"{type(error).__name__}: {error}"[:200])
        tell.end("failed", error=named.as_dict())


def waiting(data: Path) -> Iterator[Path]:
    """Folders of works to do, the oldest first; those that a runner left in the middle come again."""
    root = chores.folder_of(data)
    for one in reversed(chores.all_of(data)):
        folder = root / one.id
        if (folder / "spec.json").is_file():
            (folder / "spec.json").replace(folder / "taken.json")
            yield folder
        elif one.state not in chores.OVER:
            yield folder


def run(data: Path) -> None:
    """All works, until there is none; nothing where another runner is at it."""
    root = chores.folder_of(data)
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        while folder := next(waiting(data), None):
            do(data, folder)


def _rope() -> None:
    """Ends this process when the other end of a pipe at standard input is let go."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def hold() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(1)

    threading.Thread(target=hold, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="danqing.library.chore", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    asked = parser.parse_args()
    _rope()
    os.nice(NICE)
    run(asked.data.absolute())


if __name__ == "__main__":
    main()
    sys.exit(0)
