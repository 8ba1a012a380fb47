"""The training tab from dropped pictures to a result. The worker computes nothing, so that much happens soon."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser.conftest import ROOT, WAIT, shoot, watch
from tests.browser.test_images import tab
from tests.conftest import Server, start_server


@pytest.fixture(scope="module")
def trains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("trains") / "data"
    fake = ROOT / "tests" / "jobs" / "fake_engine.py"
    running = start_server(data, environment={"DANQING_ENGINE_COMMAND": f"{sys.executable} {fake} --data {data}"})
    yield running
    running.stop()


@pytest.fixture
def opened(trains: Server, browser: Any) -> Iterator[Any]:
    trouble: list[str] = []
    context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT)
    page = context.new_page()
    watch(page, trouble)
    page.goto(trains.base_url)
    page.wait_for_selector("#dq-tabs")
    yield page
    context.close()
    (refused,) = trouble  # the archive that is none
    assert "status of 422" in refused


def pictures(folder: Path) -> list[str]:
    for number in range(3):
        Image.new("RGB", (128, 128), (90 * number, 120, 255 - 90 * number)).save(folder / f"{number}.png")
    (folder / "0.txt").write_text("first", "utf-8")
    (folder / "0-first.zip").write_text("no zip")
    return [str(path) for path in sorted(folder.iterdir())]


def state(page: Any, name: str, wanted: str) -> None:
    """Waits until the newest training of this name is in the state."""
    page.wait_for_selector(f".dq-train-{wanted}:has(h3:text-is('{name}'))")


def test_from_pictures_to_a_result(opened: Any, trains: Server, tmp_path: Path) -> None:
    page = opened
    tab(page, "train")
    page.wait_for_selector(".dq-train-form")
    page.fill("[data-set-name]", "三张图")
    page.set_input_files(".dq-train-drop input", pictures(tmp_path))
    page.wait_for_selector(".dq-train-pictures figure:nth-child(3)")
    assert page.inner_text(".dq-train-report") == "3 张图片，其中 1 张有标注 · 分桶：3 × (128×128)"
    assert "0-first.zip" in page.inner_text(".dq-train-issues"), "what is refused is told, and costs none of the others"
    with page.expect_response(lambda answer: answer.url.endswith("/captions")):
        page.fill(".dq-train-pictures figure:nth-child(2) textarea", "第二张")
        page.press(".dq-train-pictures figure:nth-child(2) textarea", "Tab")
    assert (trains.data / "datasets" / "local" / "三张图" / "1.txt").read_text("utf-8") == "第二张\n"

    assert page.is_visible(".dq-train-unused"), "templates say nothing of the captions"
    page.select_option("[data-field=caption_source]", "sidecar")
    assert page.is_hidden(".dq-train-unused")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click(".dq-train-pictures figure:nth-child(3) .dq-train-away")
    page.wait_for_selector(".dq-train-pictures figure:nth-child(3)", state="detached")
    assert not (trains.data / "datasets" / "local" / "三张图" / "2.png").exists()

    page.fill("[data-field=name]", "zqx")
    page.select_option("[data-preset]", "t4")
    page.select_option("[data-field=method]", "dreambooth_lora")
    with page.expect_request(lambda request: '"class_prompt":""' in (request.post_data or "")):
        page.fill("[data-field=class_prompt]", "")  # not the preset's again
        page.press("[data-field=class_prompt]", "Tab")
    page.select_option("[data-preset]", "cpu-mini")
    page.select_option("[data-field=method]", "textual_inversion")
    assert page.is_visible("[data-field=vectors]")
    assert page.is_hidden("[data-field=rank]")
    page.select_option("[data-field=method]", "lora")
    page.fill("[data-field=steps]", "400")
    page.wait_for_function("/约需设备 .* 中的 /.test(document.querySelector('.dq-train-need').textContent)")
    page.click(".dq-train-form button[type=submit]")
    state(page, "zqx", "running")
    page.wait_for_selector(".dq-train-job .dq-chart polyline")
    shoot(page, "training-zh")
    page.click(".dq-train-job >> text=暂停")
    state(page, "zqx", "paused")

    page.reload()
    page.wait_for_selector("#dq-tabs")
    tab(page, "train")
    state(page, "zqx", "paused")
    assert page.input_value("[data-field=steps]") == "400"
    page.click(".dq-train-job >> text=继续")
    state(page, "zqx", "done")
    page.fill("[data-field=steps]", "7")
    page.select_option("[data-field=method]", "hypernetwork")
    page.click(".dq-train-job >> text=沿用这些设置")
    assert page.input_value("[data-field=steps]") == "400"
    assert page.input_value("[data-field=method]") == "lora"

    page.click(".dq-train-form button[type=submit]")
    page.on("dialog", lambda dialog: dialog.accept())
    state(page, "zqx", "running")
    page.click(".dq-train-running >> text=取消")
    state(page, "zqx", "cancelled")
    page.set_viewport_size({"width": 390, "height": 844})
    shoot(page, "training-phone-zh")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
