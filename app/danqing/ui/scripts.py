"""The boxes of the scripts: one for each argument of the scripts' table, and back to a request's script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.engine.scripts.table import SCRIPTS, Arg, ScriptRow, by_name

FIXED = {"csv_mode": True, "x_dropdown": (), "y_dropdown": (), "z_dropdown": ()}
"""Arguments of the plot without boxes: its values are written, lists are filled in by a button."""


def slug(row: ScriptRow) -> str:
    """The script's name as a part of ids and class names."""
    return "".join(letter if letter.isalnum() else "-" for letter in row.name)


def box(row: ScriptRow, arg: Arg) -> str:
    """The name of an argument's box."""
    return f"script_{slug(row)}_{arg.name}"


def shown(row: ScriptRow) -> tuple[Arg, ...]:
    """The arguments that have boxes."""
    return tuple(arg for arg in row.args if arg.name and arg.name not in FIXED)


NAMES: tuple[str, ...] = tuple(box(row, arg) for row in SCRIPTS for arg in shown(row))
"""All boxes of all scripts."""


def script_of(values: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The chosen script with its arguments, None for none.

    Raises:
        DanqingError: `unknown_script`; `invalid_field`, `out_of_range` of an argument.
    """
    if not name:
        return None
    row = by_name(name)
    args = {arg.name: arg.read(values.get(box(row, arg))) for arg in shown(row)}
    fixed = {arg.name: FIXED[arg.name] for arg in row.args if arg.name in FIXED}
    return {"name": row.name, "args": args | fixed}
