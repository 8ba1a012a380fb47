"""How well danqing-mini follows prompts, by the judge that looks at pixels (danqing.mini.judge)."""

from __future__ import annotations

import argparse
from typing import Any

from bench.report import Cell, show

ASPECTS = ("background", "colour", "shape", "place", "pose", "all")


def rows_of(table: dict[str, Any]) -> list[dict[str, Cell]]:
    """The measured tests as rows of percentages; tests of another form are left to the notes."""
    tests = {name: shares for name, shares in table.items() if isinstance(shares, dict) and "count" in shares}
    return [
        {
            "test": name,
            "pictures": shares["count"],
            **{f"{aspect} %": percent(shares.get(aspect)) for aspect in ASPECTS},
        }
        for name, shares in tests.items()
    ]


def percent(share: float | None) -> Cell:
    return "" if share is None else f"{100 * share:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mini", description=__doc__)
    parser.add_argument("--count", type=int, default=48, help="pictures of each main test; the card's figures have 96")
    options = parser.parse_args()
    from danqing.mini.export import load_pipeline
    from danqing.mini.figures import measure

    table = measure(load_pipeline(), options.count, say=lambda _line: None)
    others = [f"{name}: {value}" for name, value in table.items() if not (isinstance(value, dict) and "count" in value)]
    notes = [
        "Held out: pairs of shape and colour that training never saw. An aspect that a test does not ask for counts as right.",
        *others,
    ]
    show("mini", "danqing-mini: prompt following", rows_of(table), notes, table=table)


if __name__ == "__main__":
    main()
