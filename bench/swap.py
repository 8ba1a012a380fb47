"""The swap from eager to compiled in the middle of a picture, with danqing-mini: what it changes in pixels, what it gains.

Needs what `danqing box compile --sizes 128x128` makes. The same picture is drawn eagerly, with compiled code that comes at half
of the way, and compiled from the start, while another person's picture is drawn beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Cell, show
from danqing.engine.build import Workshop
from danqing.engine.compiled import CompiledNetworks
from danqing.engine.protocol import Message
from danqing.engine.settings import ROWS
from danqing.request import LIMITS, GenerateRequest
from danqing.settings import Settings

SIDE = 128


class Scene:
    """An engine whose compiled code comes when it is told to look."""

    def __init__(self, data: Path) -> None:
        self.images: dict[str, np.ndarray[Any, Any]] = {}
        self.workshop = Workshop(data, Settings((*LIMITS, *ROWS), {"engine_rows": 4}), self._hear)
        self.workshop.load_default()

    def _hear(self, message: Message) -> None:
        if message.body["event"] == "image":
            self.images[message.body["job"]] = np.frombuffer(message.blobs[0], np.uint8).reshape(SIDE, SIDE, 3)

    def draw(self, name: str, steps: int, swap_at: int) -> dict[str, Cell]:
        """Two pictures at once; compiled code is looked for before forward number `swap_at`."""
        engine, compiled = self.workshop.engine, self.workshop.runner.compiled
        before, runs = dict(engine.counters), compiled.forwards
        for job, seed in ((name, 1), (f"{name}, beside", 2)):
            request = GenerateRequest(
                prompt="a red circle", seed=seed, steps=steps, width=SIDE, height=SIDE, sampler="Euler"
            )
            engine.submit(job, request)
        while not engine.idle:
            if engine.counters["forwards"] - before["forwards"] == swap_at:
                self.look()
            engine.step()
        forwards = engine.counters["forwards"] - before["forwards"]
        return {
            "picture": name,
            "forwards": int(forwards),
            "compiled": compiled.forwards - runs,
            "ms a forward": 1000 * (engine.counters["forward_seconds"] - before["forward_seconds"]) / forwards,
        }

    def look(self) -> None:
        """What the engine's loop does once a second, until all that is there has been read."""
        compiled: CompiledNetworks = self.workshop.runner.compiled
        for _ in range(20):
            compiled.shelf.look()
            self.workshop.tend()
            if compiled.shelf.reading is not None:
                compiled.shelf.reading[2].exception()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.swap", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the data folder that was compiled for")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    scene = Scene(options.data)
    rows = [
        scene.draw("eager", options.steps, -1),
        scene.draw("swapped half way", options.steps, options.steps // 2),
        scene.draw("compiled", options.steps, -1),
    ]
    for row in rows:
        for beside, column in (("", "largest difference"), (", beside", "beside it")):
            first, second = (scene.images[f"{name}{beside}"].astype(int) for name in ("eager", str(row["picture"])))
            row[f"{column} (of 255)"] = int(np.abs(first - second).max())
    report = scene.workshop.runner.compiled.report()
    notes = [
        f"Compiled code: {report['state']}, {report['gain']:.2f} times as fast when it was made. {report['en']}".strip()
    ]
    show("swap", "From eager to compiled while people draw", rows, notes)


if __name__ == "__main__":
    main()
