"""A killed server while five browsers draw: they reconnect, unfinished jobs finish, finished pictures are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser.conftest import STAGE, WAIT, draw
from tests.conftest import start_server

BROWSERS = 5


def opened(browser: Any, url: str) -> Any:
    page = browser.new_context(locale="zh-CN", viewport={"width": 900, "height": 700}).new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector(STAGE)
    page.wait_for_function("document.querySelector('#dq-model-menu input').value !== ''")
    return page


def test_five_browsers_come_back_after_a_kill(browser: Any, tmp_path: Path) -> None:
    site = start_server(tmp_path / "data")
    pages = [opened(browser, site.base_url) for _ in range(BROWSERS)]
    try:
        draw(pages[0], "drawn before the kill", steps=2)
        pages[0].wait_for_selector(f'{STAGE}[data-state="shown"]')
        with site.client() as client:
            client.post("/v1/queue/pause").raise_for_status()  # else the first may be done before the last has asked
            for number, page in enumerate(pages):
                draw(page, f"star number {number}", steps=30)
            while len(client.get("/internal/pending-tasks").json()["tasks"]) < BROWSERS:
                pages[0].wait_for_timeout(50)
            client.post("/v1/queue/resume").raise_for_status()
            while (jobs := client.get("/v1/queue").json()["jobs"]) and all(job["state"] == "queued" for job in jobs):
                pages[0].wait_for_timeout(20)
            assert len(jobs) == BROWSERS
        site.kill()
        site = start_server(tmp_path / "data", port=site.port)
        for number, page in enumerate(pages):
            page.wait_for_function(
                """(prompt) => [...document.querySelectorAll('#dq-history .dq-thumb')].some((one) => one.title === prompt)""",
                arg=f"star number {number}",
            )
            page.wait_for_selector(f'{STAGE}[data-state="shown"]')
        titles = pages[0].eval_on_selector_all("#dq-history .dq-thumb", "all => all.map(one => one.title)")
        assert sorted(titles) == ["drawn before the kill", *(f"star number {number}" for number in range(BROWSERS))]
    finally:
        for page in pages:
            page.context.close()
        site.stop()
