"""How far the start of the machine is: /run/danqing/status.json for the waiting page, and the boot report that stays.

Every part of starting up is a phase: `with phase(places, "prefetch") as note: …`. Several programs write, so a lock orders them.
Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from danqing.box.places import Places

TEXTS: Mapping[str, tuple[str, str]] = {
    "firstboot": ("Preparing this machine", "准备这台机器"),
    "volume": ("Opening the data volume", "挂载数据卷"),
    "gpu": ("Checking the GPU", "检查显卡"),
    "prefetch": ("Reading the models from the disk", "从磁盘预读模型"),
    "queue": ("Opening the queue", "打开任务队列"),
    "page": ("Preparing the page", "准备页面"),
    "engine": ("Starting the engine", "启动引擎"),
    "torch": ("Loading PyTorch", "加载 PyTorch"),
    "model": ("Loading the model", "加载模型"),
    "warm-up": ("Drawing a first stroke", "试笔"),
    "warmup": ("Drawing a first picture with every model", "用每个模型画第一张图"),
    "compile": ("Compiling for this GPU, behind the scenes", "后台为此显卡编译"),
}
"""Name of a phase → what the waiting page calls it, in English and Chinese."""

TITLES = {name: {"en": en, "zh": zh} for name, (en, zh) in TEXTS.items()}


class Phase:
    """A running phase. `note` is for the report, `progress` (0 to 1) for the waiting page."""

    def __init__(self, places: Places, name: str) -> None:
        self._places, self.name = places, name
        self._began = time.monotonic()
        self.row: dict[str, Any] = {
            "name": name,
            "state": "running",
            "start": since_start(),
            "seconds": 0.0,
            "note": "",
        }

    def tell(self, state: str = "running", note: str | None = None, progress: float | None = None) -> None:
        """Write how it is now."""
        self.row["state"] = state
        self.row["seconds"] = round(time.monotonic() - self._began, 2)
        if note is not None:
            self.row["note"] = note
        if progress is not None:
            self.row["progress"] = round(progress, 3)
        write(self._places, [self.row])


@contextlib.contextmanager
def phase(places: Places, name: str) -> Iterator[Phase]:
    """Time a part of starting up; an exception makes it `failed` with its text as the note."""
    running = Phase(places, name)
    running.tell()
    try:
        yield running
    except BaseException as error:
        running.tell("failed", note=str(error) or type(error).__name__)
        raise
    running.row.pop("progress", None)
    running.tell("done" if running.row["state"] == "running" else running.row["state"])


def since_start() -> float:
    """Seconds since this machine's first process began. In a container too, whose clock is the host's."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        began = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        up = float(Path("/proc/uptime").read_text().split()[0])
        return round(max(0.0, up - began), 2)
    return 0.0


def read(places: Places) -> dict[str, Any]:
    """The status file; an empty status where there is none."""
    empty: dict[str, Any] = {"ready": False, "phases": [], "texts": TITLES}
    try:
        found = json.loads(places.status.read_text("utf-8"))
    except (OSError, ValueError):
        return empty
    return found if isinstance(found, dict) and isinstance(found.get("phases"), list) else empty


def write(places: Places, rows: list[dict[str, Any]], ready: bool | None = None, **more: Any) -> None:
    """Put rows into the status file and the report, replacing those of the same name; `more` is kept beside them.

    What cannot be written is passed over: telling how it goes must not stop it.
    """
    with contextlib.suppress(OSError), _lock(places):
        new = not places.status.exists()
        status = read(places)
        known = {row["name"]: row for row in status["phases"]}
        known.update({row["name"]: {**known.get(row["name"], {}), **row} for row in rows})
        status |= {"phases": list(known.values()), "texts": TITLES, "updated": round(time.time(), 2), **more}
        if ready is not None:
            status["ready"] = ready
        replace(places.status, json.dumps(status, ensure_ascii=False))
        if new:
            with contextlib.suppress(OSError):
                places.report.replace(places.last_report)
        places.state.mkdir(parents=True, exist_ok=True)
        keys = ("name", "state", "start", "seconds", "note")
        report = [{key: row.get(key, "") for key in keys} for row in known.values()]
        replace(places.report, json.dumps(report, ensure_ascii=False, indent=1) + "\n")


@contextlib.contextmanager
def _lock(places: Places) -> Iterator[None]:
    places.run.mkdir(parents=True, exist_ok=True)
    # Readable by all and never written: whoever may read a file may lock it.
    handle = os.open(places.run / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with contextlib.suppress(OSError):
            os.fchmod(handle, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace(path: Path, text: str) -> None:
    """Write a file that everybody may read, whole or not at all; in place where its folder is somebody else's."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(text, "utf-8")
    except PermissionError:
        path.write_text(text, "utf-8")
        return
    half.chmod(0o644)
    with contextlib.suppress(OSError):
        # Root writes what the service must be able to write after it.
        known = path.stat()
        os.chown(half, known.st_uid, known.st_gid)
    half.replace(path)
