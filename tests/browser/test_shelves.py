"""The pages beside the desk: picture information, gallery, models, settings."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from danqing.library.tensors import write_safetensors
from tests.browser.conftest import STAGE, Open, draw, finish, shoot
from tests.browser.test_images import tab
from tests.conftest import Server


def drawn(page: Any, prompt: str) -> None:
    draw(page, prompt, steps=2)
    finish(page, prompt)


def test_gallery_searches_deletes_brings_back_and_packs(open_page: Open) -> None:
    page = open_page("zh-CN")
    drawn(page, "unmistakable heron")
    tab(page, "gallery")
    page.wait_for_selector(".dq-piece")
    page.fill("[data-search=gallery]", "unmistakable HERON")
    page.wait_for_function("document.querySelectorAll('.dq-piece').length === 1")
    page.fill("[data-of-model]", "another-model")
    page.press("[data-of-model]", "Tab")
    page.wait_for_selector(".dq-shelf .dq-none >> text=没有找到")
    page.fill("[data-of-model]", "danqing-mini")
    today = page.evaluate("new Date().toLocaleDateString('sv')")
    page.fill("[data-until]", today)
    page.fill("[data-since]", today)
    page.wait_for_selector(".dq-piece")
    page.click(".dq-like")
    assert page.get_attribute(".dq-like", "aria-pressed") == "true"
    page.check(".dq-piece input")
    shoot(page, "gallery-zh")
    with page.expect_download() as waiting:
        page.click("[data-shelf-do=zip]")
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        assert len(archive.namelist()) == 1
    strip = "#dq-history [role=listitem]:not([hidden])"
    before = page.locator(strip).count()
    page.click("[data-shelf-do=delete]")
    page.wait_for_function("document.querySelectorAll('.dq-piece').length === 0")
    assert page.locator(strip).count() == before - 1, "the strip offers nothing that is gone"
    page.click("[data-shelf-do=undo]")
    page.wait_for_function("document.querySelectorAll('.dq-piece').length === 1")
    page.click(".dq-piece .dq-thumb")
    page.click("#dq-large >> text=发送到局部重绘")
    page.wait_for_selector("[data-well=inpaint_image] .dq-board:not([hidden])")


def test_information_of_a_picture_and_sending_it_on(open_page: Open, site: Server) -> None:
    page = open_page("en-US")
    drawn(page, "a picture to be read")
    path = max((site.data / "outputs").rglob("*.png"), key=lambda one: one.stat().st_mtime)
    tab(page, "info")
    page.set_input_files("[data-well=info_image] input[type=file]", str(path))
    page.wait_for_selector("#dq-information .dq-info:not([hidden])")
    assert page.inner_text("#dq-information .dq-info").startswith("a picture to be read")
    shoot(page, "info-en")
    page.fill("#dq-prompt textarea", "", force=True)
    page.click("#dq-information [data-tab=img2img]")
    page.wait_for_function("document.querySelector('#dq-prompt textarea').value === 'a picture to be read'")
    assert page.is_visible("[data-well=init] .dq-board")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_models_are_listed_and_used(open_page: Open, site: Server, locale: str) -> None:
    hollow = site.data / "models" / "VAE" / "hollow.safetensors"
    hollow.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(hollow, [], {})
    page = open_page(locale)
    tab(page, "models")
    page.wait_for_selector("[data-shelf=models] td")
    assert "danqing-mini" in page.inner_text("[data-shelf=models]")
    shoot(page, f"models-{locale[:2]}")
    page.click("[data-vae='hollow.safetensors']")
    page.wait_for_function("document.querySelector('#dq-vae input').value === 'hollow.safetensors'")
    hollow.unlink()
    tab(page, "models")
    page.click("[data-model]")
    page.wait_for_function("document.body.dataset.tab === 'txt2img'")


def test_settings_are_searched_kept_and_obeyed(open_page: Open) -> None:
    page = open_page("en-US")
    tab(page, "settings")
    page.wait_for_selector(".dq-option")
    page.fill("[data-search=settings]", "ensd")
    assert page.locator(".dq-option:visible").count() == 1
    box = "#dq-opt-eta_noise_seed_delta"
    page.fill(box, "31337")
    page.press(box, "Tab")
    page.wait_for_selector(".dq-changed[data-key=eta_noise_seed_delta]")
    shoot(page, "settings-en")
    tab(page, "txt2img")
    page.fill("#dq-sampler input", "Euler a")
    page.press("#dq-sampler input", "Enter")
    drawn(page, "with another noise")
    assert "ENSD: 31337" in page.inner_text(f"{STAGE} .dq-info")
    tab(page, "settings")
    page.click("[data-key=eta_noise_seed_delta] [data-reset]")
    page.wait_for_selector(".dq-option[data-key=eta_noise_seed_delta]:not(.dq-changed)")
    page.check(".dq-whose input[value='1']")
    page.wait_for_selector(".dq-note >> text=everybody who has set nothing else")
    shoot(page, "settings-box-en")
    page.check(".dq-whose input[value='2']")
    page.fill("[data-search=settings]", "trash_days")
    page.wait_for_selector(".dq-option[data-key=trash_days]")
    assert page.locator(".dq-option:visible").count() == 1
    page.fill("#dq-opt-trash_days", "2")
    page.press("#dq-opt-trash_days", "Tab")
    page.wait_for_selector(".dq-changed[data-key=trash_days]")
    page.click("[data-key=trash_days] [data-reset]")
    page.wait_for_selector(".dq-option[data-key=trash_days]:not(.dq-changed)")
    page.fill("[data-search=settings]", "")
    shoot(page, "settings-service-en")


def test_phone_shows_every_tab_without_scrolling_sideways(open_page: Open) -> None:
    page = open_page("zh-CN", width=360, height=740)
    for name in ("txt2img", "img2img", "inpaint", "extras", "info", "gallery", "models", "settings"):
        tab(page, name)
        page.wait_for_timeout(200)
        shoot(page, f"phone-{name}-zh")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
