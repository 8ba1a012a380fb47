"""The fault bench with the real engine and danqing-mini: killed once on each side under load, then a few jobs more."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest

from bench.faults import run


@pytest.mark.slow
def test_the_real_engine_loses_nothing_either(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    options = argparse.Namespace(kills=2, clients=4, users=4, faults=[], jobs=10, seed=seed, engine="")
    for row in run(options, tmp_path):
        assert row["jobs"], row
        assert row["done"] == row["jobs"], (seed, row)
        assert [row[name] for name in ("failed", "lost", "twice", "broken", "not indexed")] == [0] * 5, (seed, row)
