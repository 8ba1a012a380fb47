"""The fault bench: a real `danqing serve` is hurt while clients draw, and nothing that was acknowledged may be lost.

First kill -9 at random moments, in turn of the web process (which this program then starts again, as systemd does) and of the
engine (which the web process starts again). Then the faults of `fault_kinds`. Then a soak: jobs of mixed kinds from many clients,
and how memory grows while they are drawn.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from bench.fault_box import Box, Clients, checked
from bench.fault_kinds import FAULTS
from bench.report import Cell, percentile, show
from danqing.engine.main import TRIM_SECONDS

MOST_GROWTH = 2.0
"""Percent, from a tenth of a soak to its end."""

LONG = 500
"""Jobs of a soak whose growth is judged: in a shorter one allocators have not come to rest."""


def kills(box: Box, count: int, clients: int, rng: random.Random) -> dict[str, Cell]:
    """The first row: kills under load."""
    load = Clients(box, clients, rng)
    load.start()
    times: dict[str, list[tuple[float, float]]] = {"web": [], "engine": []}
    for number in range(count):
        time.sleep(rng.uniform(0.2, 2.0))
        which = ("web", "engine")[number % 2]
        times[which].append(box.kill_web() if which == "web" else box.kill_engine())
    load.stop()
    row: dict[str, Cell] = {"test": f"{count} kills, {clients} clients", **checked(box, load.acknowledged)}
    if times["web"]:
        row["port back s"] = percentile([port for port, _ in times["web"]], 0.5)
    for which, found in times.items():
        if found:
            row[f"drawing after {which} kill s"] = percentile([ready for _, ready in found], 0.5)
    return row


def rested(box: Box) -> float:
    """MB when nobody draws and the engine has given back what is free."""
    time.sleep(1.5 * TRIM_SECONDS)
    return box.memory()


def soak(box: Box, count: int, clients: int, rng: random.Random) -> dict[str, Cell]:
    """The second row: many jobs, and what memory does after the first tenth of them."""
    warm = Clients(box, clients, rng, max(1, count // 10))
    warm.start()
    warm.join()
    before = rested(box)
    load = Clients(box, clients, rng, count)
    load.start()
    load.join()
    after = rested(box)
    row: dict[str, Cell] = {"test": f"soak of {count} jobs, {clients} clients"}
    row |= checked(box, warm.acknowledged + load.acknowledged)
    return row | {"MB after warm-up": before, "MB grown %": 100 * (after - before) / before}


def run(options: argparse.Namespace, folder: Path) -> list[dict[str, Cell]]:
    """Both rows, on one server and one data folder."""
    environ = {**os.environ, "DANQING_LOG_LEVEL": "warning", "DANQING_ENGINE_ATTEMPTS": "100"}
    environ["DANQING_LIMIT_REQUESTS_A_SECOND"] = "10000"
    if options.engine:
        environ["DANQING_ENGINE_COMMAND"] = options.engine
    (folder / "data").mkdir()
    box, rng = Box(folder / "data", environ), random.Random(options.seed)
    if options.jobs:
        box.invite(max(options.users, options.clients))
    print("seed", options.seed, flush=True)
    box.start()
    try:
        box.until(box.ready, "a first start")
        rows = [kills(box, options.kills, options.clients, rng)] if options.kills else []
        for name in options.faults:
            rows.append(FAULTS[name](box, options.clients, rng, folder))
            print(rows[-1], flush=True)
        return rows + ([soak(box, options.jobs, options.users, rng)] if options.jobs else [])
    finally:
        box.stop()


def chosen(options: argparse.Namespace) -> argparse.Namespace:
    """`--only` said by what it leaves out."""
    if options.only:
        options.faults = [name for name in FAULTS if name in options.only]
        options.kills = options.kills if "kills" in options.only else 0
        options.jobs = options.jobs if "soak" in options.only else 0
    return options


def faults_in(rows: list[dict[str, Cell]]) -> list[str]:
    """What must not be: jobs lost, drawn twice or failed without a word, files that do not open, memory that grows."""
    found = [
        f"{row['test']}: {row[what]} {what}"
        for row in rows
        for what in ("lost", "twice", "untold", "broken", "not indexed")
        if row.get(what)
    ]
    grown = [row for row in rows if float(row.get("MB grown %") or 0) > MOST_GROWTH and int(row["jobs"] or 0) >= LONG]
    return found + [f"{row['test']}: memory has grown by {row['MB grown %']:.1f} %" for row in grown]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills in all, of web and engine in turn")
    parser.add_argument("--clients", type=int, default=8, help="how many submit at once")
    parser.add_argument("--users", type=int, default=20, help="how many submit at once in the soak")
    parser.add_argument(
        "--faults", nargs="*", choices=FAULTS, default=list(FAULTS), metavar="NAME", help=f"of {', '.join(FAULTS)}"
    )
    parser.add_argument("--jobs", type=int, default=50, help="jobs of the soak")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of everything random")
    parser.add_argument("--engine", default="", help="another program in the place of the engine")
    names = ("kills", *FAULTS, "soak")
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=f"just these of {', '.join(names)}")
    options = chosen(parser.parse_args())
    with tempfile.TemporaryDirectory() as name:
        rows = run(options, Path(name))
    notes = [
        "danqing-mini through HTTP. lost: acknowledged, and neither done nor failed nor cancelled in the end; twice: a job's "
        "picture that is there more than once; untold: failed without a sentence for its owner; not indexed: files that no row "
        "names. Seconds are medians, from the kill."
    ]
    show("faults", "Faults", rows, notes, seed=options.seed)
    if wrong := faults_in(rows):
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
