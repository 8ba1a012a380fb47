"""`python -m boxlab COMMAND`: see --help."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .host import LabError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="boxlab", description=(__doc__ or ""))
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="the lab's own process")
    serve.add_argument("folder", type=Path)
    commands.add_parser("start", help="start an empty lab: the emulated AWS and the base image")
    commands.add_parser("down", help="end every lab")
    asked = parser.parse_args(argv)
    try:
        return _do(asked)
    except LabError as error:
        print(f"box: {error}", file=sys.stderr)
        return 1


def _do(asked: argparse.Namespace) -> int:
    if asked.command == "serve":
        from .daemon import main as serve

        serve(asked.folder)
    elif asked.command == "start":
        from . import base, lab, wheels

        print(lab.create(base.folder(), wheels.wheelhouse()).folder)
    elif asked.command == "down":
        from . import lab

        for folder in lab.all_labs():
            lab.end(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
