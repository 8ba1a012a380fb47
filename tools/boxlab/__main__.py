"""`python -m boxlab COMMAND`: see --help."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .host import LabError, why_not


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="boxlab", description=(__doc__ or ""))
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="the lab's own process")
    serve.add_argument("folder", type=Path)
    up = commands.add_parser("up", help="build the image, launch it, serve its page on 127.0.0.1")
    up.add_argument("--port", type=int, default=8080)
    up.add_argument("--fresh", action="store_true", help="bake anew even where nothing changed")
    commands.add_parser("down", help="end every lab and remove its traces")
    shell = commands.add_parser("shell", help="a shell on the box, or a command as root")
    shell.add_argument("run", nargs=argparse.REMAINDER)
    commands.add_parser("check", help="say why no lab can run here; status 1 then")
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
    elif asked.command == "up":
        from .up import up

        up(asked.port, asked.fresh)
    elif asked.command == "down":
        from . import lab

        for folder in lab.all_labs():
            lab.end(folder)
    elif asked.command == "shell":
        from .up import shell

        return shell(*asked.run)
    elif asked.command == "check" and (reason := why_not()):
        raise LabError(reason)
    return 0


if __name__ == "__main__":
    sys.exit(main())
