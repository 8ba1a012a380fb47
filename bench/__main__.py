"""`python -m bench` runs every benchmark, `python -m bench start overhead` those two."""

from __future__ import annotations

import argparse
import subprocess
import sys

ALL = ("mini", "start", "overhead", "serving")


def main() -> int:
    """Each benchmark runs in a process of its own, so that none warms another's caches; 1 when any failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(ALL)}; all when none is named"
    )
    names = parser.parse_args().names or ALL
    if unknown := set(names) - set(ALL):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return max([subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode for name in names])


if __name__ == "__main__":
    sys.exit(main())
