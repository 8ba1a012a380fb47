"""The boxes of plug-ins' scripts, and what stands in them as arguments of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.engine.scripts import table
from danqing.engine.scripts.table import ScriptRow
from danqing.plugins import Script, Tab
from danqing.plugins.loading import active
from danqing.ui.scripts import box, slug

TAB = "plug-"
"""Before the name of a plug-in's tab."""


def always_on() -> list[tuple[ScriptRow, Script]]:
    """Always-on scripts of plug-ins."""
    return _paired(True)


def selectable() -> list[tuple[ScriptRow, Script]]:
    """Selectable scripts of plug-ins."""
    return _paired(False)


def _paired(always: bool) -> list[tuple[ScriptRow, Script]]:
    told = {script.name.lower(): script for script in active().scripts(always)}
    return [(row, told[row.name]) for row in table.of_plugins(always)]


def tabs() -> dict[str, tuple[str, Tab]]:
    """Tabs of plug-ins by their key on the page, each with the plug-in's name."""
    found: dict[str, tuple[str, Tab]] = {}
    for name, rows in active().calls("danqing_tabs"):
        for tab in rows:
            found.setdefault(TAB + slug_of(tab.name), (name, tab))
    return found


def slug_of(name: str) -> str:
    """A name as a part of ids and keys."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def words() -> dict[str, tuple[str, str]]:
    """The words of all boxes, choices aside, and of all tabs, by key."""
    found = {key: (tab.en, tab.zh) for key, (_, tab) in tabs().items()}
    for row, script in (*always_on(), *selectable()):
        found[f"title_{row.name}"] = (script.en, script.zh)
        found |= {box(row, arg): (one.en, one.zh) for arg, one in zip(row.args, script.boxes, strict=True)}
    return found


def arguments(values: Mapping[str, Any], tab: str) -> dict[str, dict[str, Any]]:
    """What the boxes say to always-on scripts, where it is not the default anyway.

    Raises:
        DanqingError: `invalid_field`, `out_of_range` of a box.
    """
    found = {}
    for row, _ in always_on():
        given = {arg.name: arg.read(values.get(box(row, arg))) for arg in row.args}
        changed = {arg.name: given[arg.name] for arg in row.args if given[arg.name] != arg.default}
        if changed and tab in row.tabs:
            found[row.name] = changed
    return found


def styles() -> str:
    """The rules that show a selectable script's boxes when it is chosen, and an always-on one's on its tabs."""
    chosen = [
        f'body:not([data-script="{slug(row)}"]) .dq-script-{slug(row)} {{ display: none !important; }}'
        for row, _ in selectable()
    ]
    placed = [
        f"body{_on(row)} #dq-plug-{slug(row)} {{ display: none !important; }}"
        for row, _ in always_on()
        if len(row.tabs) == 1
    ]
    return "\n".join(chosen + placed)


def _on(row: ScriptRow) -> str:
    """Which bodies do not have the script."""
    return '[data-tab="txt2img"]' if row.tabs == ("img2img",) else ':not([data-tab="txt2img"])'
