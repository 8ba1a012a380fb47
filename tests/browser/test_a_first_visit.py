"""The first visit to a box where nothing was drawn: this file's name puts it before all others of the shared server."""

from __future__ import annotations

import time

import pytest

from tests.browser.conftest import STAGE, Open, finish, shoot


def test_first_visit_in_chinese_one_click_to_a_picture(open_page: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """At most three actions are allowed; one click on an example is enough. The seconds stand in the test's log."""
    began = time.monotonic()
    page = open_page("zh-CN")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    opened = time.monotonic() - began
    assert page.inner_text(f"{STAGE} h2") == "今天画点什么？"
    assert page.inner_text("#dq-generate") == "开始绘制"
    assert page.locator(".dq-example").count() == 4
    assert page.eval_on_selector_all(".dq-example img", "all => all.map(one => one.naturalWidth)") == [128] * 4
    shoot(page, "first-visit-zh")
    prompt = page.inner_text(".dq-example >> nth=0").strip()
    acted = time.monotonic()
    page.click(".dq-example >> nth=0")
    finish(page, prompt)
    with capsys.disabled():
        print(
            f"\nfirst paint {paint / 1000:.2f} s, page ready {opened:.2f} s, "
            f"first picture {time.monotonic() - acted:.2f} s after the first visit's one action"
        )
    assert page.input_value("#dq-prompt textarea") == prompt
    assert page.evaluate("document.querySelector('.dq-zoom img').naturalWidth") == 128
    assert "完成" in page.inner_text(f"{STAGE} .dq-line")
    assert page.locator("#dq-history .dq-thumb").count() == 1
