"""How the box is: phases of this start, readiness, the boot report as a table."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danqing.box import phases
from danqing.box.local import Client
from danqing.box.places import Places
from danqing.engine.compile import accelerated
from danqing.errors import Language

Line = tuple[str, str]
STATES = {"running": "进行中", "done": "完成", "failed": "失败", "skipped": "跳过"}


def status(places: Places, client: Client) -> dict[str, Any]:
    """The status file, with what the app says of itself now."""
    found = phases.read(places)
    answer = client.get("/readyz")
    told = answer.json()
    found["ready"] = answer.status == 200
    found["answers"] = answer.status != 0
    known = {row["name"]: row for row in found["phases"]}
    for row in told.get("phases", ()):
        known[row["name"]] = {**known.get(row["name"], {}), **row}
    found["phases"] = list(known.values())
    if "error" in told:
        found["trouble"] = told["error"]
    engine = client.get("/v1/engine").json() if found["ready"] else {}
    if isinstance(engine.get("acceleration"), dict):
        found["acceleration"] = engine["acceleration"]
    return found


def lines(found: dict[str, Any]) -> Iterator[Line]:
    """For people."""
    for row in found["phases"]:
        en, zh = phases.TEXTS.get(row["name"], (row["name"], row["name"]))
        state, seconds = str(row["state"]), float(row.get("seconds", 0))
        note = f"  {row['note']}" if row.get("note") else ""
        yield (f"{state:<8} {seconds:7.1f} s  {en}{note}", f"{STATES.get(state, state)} {seconds:7.1f} 秒  {zh}{note}")
    if isinstance(found.get("acceleration"), dict):
        en, zh = accelerated(found["acceleration"])
        yield f"networks: {en}", f"网络：{zh}"
    if isinstance(found.get("error"), dict):
        yield found["error"].get("en", ""), found["error"].get("zh", "")
    if found["ready"]:
        yield "ready: a picture can be drawn now", "就绪：现在可以绘图"
    elif found["answers"]:
        error = found.get("trouble", "")
        yield (
            f"starting{f' (trouble: {error}; danqing box doctor)' if error else ''}",
            f"启动中{f'（故障：{error}；danqing box doctor）' if error else ''}",
        )
    else:
        yield "Danqing does not answer: danqing box doctor", "丹青没有响应：danqing box doctor"


def report(path: Path) -> list[dict[str, Any]]:
    """The rows of a boot report, [] where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def table(rows: list[dict[str, Any]], language: Language) -> Iterator[str]:
    """Name, state, start and duration in seconds, note; in the order in which the phases began."""
    if not rows:
        yield "还没有启动报告" if language == "zh" else "no boot report yet"
        return
    head = (
        ("阶段", "状态", "开始 s", "用时 s", "备注")
        if language == "zh"
        else ("phase", "state", "start s", "took s", "note")
    )
    ordered = sorted(rows, key=lambda row: float(row.get("start") or 0))
    body = [
        (
            str(row.get("name", "")),
            STATES.get(str(row.get("state")), "") if language == "zh" else str(row.get("state", "")),
            f"{float(row.get('start') or 0):.1f}",
            f"{float(row.get('seconds') or 0):.1f}",
            str(row.get("note", "")),
        )
        for row in ordered
    ]
    widths = [max(_width(cells[place]) for cells in (head, *body)) for place in range(4)]
    for cells in (head, *body):
        texts = [
            _padded(cell, width, place in (2, 3))
            for place, (cell, width) in enumerate(zip(cells[:4], widths, strict=True))
        ]
        yield "  ".join([*texts, cells[4]]).rstrip()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _padded(text: str, width: int, right: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap
