"""`python -m bench` runs the usual benchmarks, `python -m bench start faults` those two."""

from __future__ import annotations

import argparse
import subprocess
import sys

ALL = ("mini", "start", "overhead", "serving")
"""What runs when none is named."""

MORE = ("sessions", "fairness", "faults", "coldboot", "loading", "adapters", "big", "control", "control_maps",
        "control_mini", "savers", "swap", "training", "training_shape", "gpu")  # fmt: skip
"""What takes long, needs much memory, root or a GPU, or has a page of its own."""


def main() -> int:
    """Each benchmark runs in a process of its own, so that none warms another's caches; 1 when any failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which to run: {', '.join(ALL)} (all of these when none is named), {', '.join(MORE)}",
    )
    names = parser.parse_args().names or ALL
    if unknown := set(names) - {*ALL, *MORE}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join((*ALL, *MORE))}")
    return max([subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode for name in names])


if __name__ == "__main__":
    sys.exit(main())
