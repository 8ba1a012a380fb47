"""Every preprocessor on three photographs and on pictures of every kind: seconds, sizes, and the most memory.

The photographs come with scikit-image: astronaut (NASA, public domain), coffee (Rachel Michetti, CC0) and chelsea (Stéfan van der
Walt, CC0). Networks have random weights. Every preprocessor runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Cell, show
from danqing.control import catalog, maps, plain

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
LARGE = (6000, 8000)
"""Height and width of the largest picture."""
BOUND_MB = {"plain": 1024, "network": 6144}
"""Megabytes that a preprocessor may cost above what its process has with the picture read."""


def photograph(name: str) -> plain.Pixels:
    """(h, w, 3) uint8."""
    from skimage import data

    found: plain.Pixels = getattr(data, name)()
    return found


def pictures() -> Iterator[tuple[str, plain.Pixels]]:
    """The photographs, and one of them as every kind of picture that may come."""
    for name in PHOTOGRAPHS:
        yield name, photograph(name)
    base = photograph("astronaut")
    yield "odd size", base[:301, :203]
    yield "grey", base[:, :, 0]
    yield "RGBA", np.dstack([base, base[:, :, 1]])
    yield "16 bit", base.astype(np.uint16) * 257
    yield "1x1", base[:1, :1]


def large() -> plain.Pixels:
    """A photograph tiled to 8000x6000."""
    base = photograph("coffee")
    times = [-(-side // own) for side, own in zip(LARGE, base.shape[:2], strict=True)]
    return np.ascontiguousarray(np.tile(base, (*times, 1))[: LARGE[0], : LARGE[1]])


def measured(data: Path, module: str, resolution: int) -> dict[str, Cell]:
    """One preprocessor's row. Raises AssertionError for a map of another size or kind."""
    row = catalog.find(module)
    values = catalog.settings_of(row, resolution)

    def made(image: plain.Pixels) -> tuple[plain.Pixels, float]:
        mask = np.zeros(image.shape[:2], np.uint8) if row.needs_mask else None
        begin = time.perf_counter()
        found = maps.detect(data, module, image, resolution=values.resolution, a=values.a, b=values.b, mask=mask)
        seconds = time.perf_counter() - begin
        assert found.dtype == np.uint8, module
        assert found.shape[2:] == (3,), (module, found.shape)
        return found, seconds

    def sized(image: plain.Pixels, found: plain.Pixels) -> bool:
        if row.how == "plain" and row.name not in plain.SIZED and row.name != "shuffle":
            return row.name == "tile_resample" or found.shape[:2] == image.shape[:2]
        wanted = plain.map_size(image.shape[0], image.shape[1], values.resolution)
        return all(abs(one - other) <= 1 for one, other in zip(found.shape[:2], wanted, strict=True))

    cells: dict[str, Cell] = {"module": module, "needs": row.how, "resolution": values.resolution}
    whole = large()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most memory counts from here on
    for name, image in pictures():
        found, seconds = made(image)
        assert sized(image, found), (module, name, found.shape)
        if name in PHOTOGRAPHS:
            cells[f"{name} ms"] = 1000 * seconds
    found, seconds = made(whole)
    assert sized(whole, found), (module, "8000x6000", found.shape)
    cells["8000x6000 ms"] = 1000 * seconds
    cells["most MB"] = round(memory("VmHWM") - before)
    return cells


def memory(field: str) -> float:
    """MiB of this process: "VmRSS" now, "VmHWM" at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def all_rows(resolution: int, only: tuple[str, ...], folder: Path, limit: float) -> list[dict[str, Cell]]:
    """A process for each preprocessor, one after the other; one that takes longer than `limit` seconds says so."""
    from bench import annotators

    rows = []
    for row in catalog.ROWS:
        if row.how not in ("plain", "network") or (only and row.name not in only):
            continue
        annotators.write(folder.joinpath(*maps.FOLDER), row.files)
        command = [sys.executable, "-m", "bench.control_maps", "--one", row.name, "--data", str(folder)]
        cells: dict[str, Any] = {"module": row.name, "needs": row.how}
        try:
            done = subprocess.run(
                [*command, "--resolution", str(resolution)], capture_output=True, text=True, timeout=limit
            )
            lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["?"]
            cells |= json.loads(lines[-1]) if done.returncode == 0 else {"note": lines[-1][:160]}
        except subprocess.TimeoutExpired:
            cells["note"] = f"more than {limit:.0f} s"
        if int(cells.get("most MB", 0)) > BOUND_MB[row.how]:
            cells["note"] = f"above its bound of {BOUND_MB[row.how]} MB"
        print(cells, flush=True)
        rows.append(cells)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.control_maps", description=__doc__)
    parser.add_argument("modules", nargs="*", help="preprocessors; all when none is named")
    parser.add_argument("--resolution", type=int, default=512, help="pixels of a map's shorter side")
    parser.add_argument("--limit", type=float, default=600, help="seconds that one preprocessor may take")
    parser.add_argument("--data", type=Path, help="data root that gets the random weights; a temporary one without it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(measured(options.data, options.one, options.resolution)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        rows = all_rows(options.resolution, tuple(options.modules), folder, options.limit)
    rows.sort(key=lambda row: len(row), reverse=True)
    notes = [
        "One thread. Beside the photographs each ran on an odd size, grey, RGBA, 16 bits and 1x1. Most MB: above the "
        "process with its pictures read, weights included; the bounds are "
        f"{BOUND_MB['plain']} MB without and {BOUND_MB['network']} MB with a network."
    ]
    show("control_maps", "Preprocessors", rows, notes)


if __name__ == "__main__":
    main()
