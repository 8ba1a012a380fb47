"""The fault bench in small: a real `danqing serve` over HTTP, killed five times on each side under load, then a soak."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from bench.faults import run

from .support import FAKE_ENGINE


def test_nothing_is_lost_or_there_twice_and_every_file_opens(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    engine = f"{sys.executable} {FAKE_ENGINE} --step 0.005"
    options = argparse.Namespace(kills=10, clients=8, users=20, faults=[], jobs=50, seed=seed, engine=engine)
    rows = run(options, tmp_path)
    assert len(rows) == 2
    for row in rows:
        assert row["jobs"], row
        assert row["done"] == row["jobs"], (seed, row)
        assert [row[name] for name in ("failed", "untold", "lost", "twice", "broken", "not indexed")] == [0] * 6, (
            seed,
            row,
        )
    assert {"port back s", "drawing after web kill s", "drawing after engine kill s"} <= rows[0].keys()
