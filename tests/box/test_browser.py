"""A browser on port 80: waiting page, login, a prompt, a picture, in both languages. Screenshots: build/screenshots/box-*.png."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.box.conftest import Box, until
from tests.browser.conftest import STAGE, chromium, draw, finish, shoot

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="Chromium is missing: apt-get install chromium fonts-noto-cjk"
)
WORDS = {"zh-CN": ("丹青", "一只红色的圆"), "en-US": ("Danqing", "a red circle")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--no-proxy-server"])
        yield opened
        opened.close()


@pytest.mark.parametrize("language", WORDS)
def test_waiting_page_login_prompt_picture(box: Box, browser: Any, language: str) -> None:
    name, prompt = WORDS[language]
    short = language[:2]
    box.wait_ready()
    box.sh("systemctl stop danqing-web")
    context = browser.new_context(locale=language, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)
    page = context.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(box.url)
    assert name in page.inner_text("body") or name in page.title()
    shoot(page, f"box-waiting-{short}")
    box.sh("systemctl start danqing-web")
    # the waiting page leads on by itself
    page.wait_for_selector("input[type=password]")
    shoot(page, f"box-login-{short}")
    page.fill("input[name=user]", "admin")
    page.fill("input[type=password]", box.password)
    page.press("input[type=password]", "Enter")
    page.wait_for_selector(STAGE)
    page.wait_for_function("document.querySelector('#dq-model-menu input')?.value")
    until(box.ready, "ready")
    draw(page, prompt)
    finish(page, prompt)
    shoot(page, f"box-picture-{short}")
    assert page.evaluate("document.querySelector('.dq-zoom img').naturalWidth") > 0
    context.close()
    assert trouble == []


def test_waiting_page_fits_a_phone(box: Box, browser: Any) -> None:
    box.sh("systemctl stop danqing-web")
    context = browser.new_context(locale="zh-CN", viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(box.url)
    wide = page.evaluate("document.documentElement.scrollWidth")
    shoot(page, "box-waiting-phone")
    context.close()
    box.sh("systemctl start danqing-web")
    box.wait_ready()
    assert wide <= 360
