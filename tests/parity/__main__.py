"""Replays a folder of recorded cases: `python -m tests.parity --cases DIR --inputs DIR --data DIR --out DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.parity.replay import Replay, Result


def main() -> int:
    """Draw, compare, print a table. 0 when every compared case is within the bounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument(
        "--cases", type=Path, required=True, help="folder of NAME.json, with NAME.N.npz and NAME.N.png to compare"
    )
    parser.add_argument(
        "--inputs", type=Path, required=True, help="folder of the pictures that cases name as @inputs/..."
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="data root: models, embeddings, styles.csv, config.json"
    )
    parser.add_argument("--out", type=Path, required=True, help="where NAME.N.png and NAME.N.npz go")
    parser.add_argument("--only", nargs="*", default=[], help="names of cases; all when left out")
    arguments = parser.parse_args()
    replay = Replay(arguments.data, arguments.inputs, arguments.out)
    bad = 0
    for path in sorted(arguments.cases.rglob("*.json")):
        if arguments.only and path.stem not in arguments.only:
            continue
        result = replay.case(path)
        bad += not result.good
        print(line(path.stem, result), flush=True)
    print(f"{bad} beyond the bounds")
    return 1 if bad else 0


def line(name: str, result: Result) -> str:
    """A row of the table."""
    mark = "ok " if result.good else "BAD"
    latent = "      -" if result.latent is None else f"{result.latent:.1e}"
    pixels = "  -" if result.pixels is None else f"{result.pixels:3d}"
    return f"{mark} {name:32s} latent {latent}  pixels {pixels}  {result.note}"


if __name__ == "__main__":
    sys.exit(main())
