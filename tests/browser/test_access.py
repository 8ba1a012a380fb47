"""Accessibility of every tab in both themes, by axe-core, which must find no serious fault; the page from a small phone to 4K."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest

from tests.browser.conftest import Open, draw, finish, shoot

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


def faults(page: Any) -> list[str]:
    """Serious and critical faults, each with the first element that has it."""
    found = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })"
    )
    return [
        f"{row['id']}: {row['nodes'][0]['html'][:160]} ({len(row['nodes'])}; {row['nodes'][0]['failureSummary'][:200]})"
        for row in found["violations"]
        if row["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("locale", "scheme"), [("zh-CN", "light"), ("en-US", "dark")])
def test_axe_finds_no_serious_fault_on_any_tab(open_page: Open, locale: str, scheme: str) -> None:
    page = open_page(locale, scheme=scheme)
    draw(page, "a red star", steps=2)
    finish(page, "a red star")
    page.evaluate(AXE.read_text("utf-8"))
    found = {}
    for tab in page.eval_on_selector_all("#dq-tabs input", "all => all.map(one => one.value)"):
        page.evaluate(f"window.danqing.choose('{tab}')")
        page.wait_for_timeout(500)
        found[tab] = faults(page)
    assert {tab: rows for tab, rows in found.items() if rows} == {}


@pytest.mark.parametrize(("locale", "width", "height"), [("zh-CN", 360, 740), ("en-US", 3840, 2160)])
def test_every_tab_fits_a_small_phone_and_4k(open_page: Open, locale: str, width: int, height: int) -> None:
    page = open_page(locale, width=width, height=height)
    for tab in page.eval_on_selector_all("#dq-tabs input", "all => all.map(one => one.value)"):
        page.evaluate(f"window.danqing.choose('{tab}')")
        page.wait_for_selector(f'body[data-tab="{tab}"]')
        shoot(page, f"{tab}-{locale[:2]}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
