"""What every benchmark prints and writes: facts of the machine, one table, one JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

OUT = Path(__file__).parent / "out"

Cell = str | int | float | None


def machine() -> dict[str, Cell]:
    """CPU model, cores, memory, load, versions; what a figure means nothing without."""
    from importlib.metadata import version

    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
        "diffusers": version("diffusers"),
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed, between neighbours in a straight line."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, max(0, round(share * 1000) - 1))]


def show(name: str, title: str, rows: Sequence[Mapping[str, Cell]], notes: Sequence[str] = (), **more: object) -> None:
    """Print the rows as a Markdown table and write them, with the machine's facts, to bench/out/NAME.json."""
    facts = machine()
    print(f"\n## {title}\n\n{markdown(rows)}", end="")
    for note in notes:
        print(f"\n{note}")
    print("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()))
    OUT.mkdir(exist_ok=True)
    record = {
        "name": name,
        "time": time.time(),
        "machine": facts,
        "rows": [dict(row) for row in rows],
        "notes": list(notes),
        **more,
    }
    (OUT / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


def markdown(rows: Sequence[Mapping[str, Cell]]) -> str:
    """The rows as a Markdown table; the columns are those of the first row, then others as they come."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |"]
    lines.append(
        "|" + "|".join(" --- " if isinstance(rows[0].get(column), str) else " ---: " for column in columns) + "|"
    )
    lines += ["| " + " | ".join(_text(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    return str(value)
