"""Takes the screenshots of the documents: `python -m tests.browser.take_screenshots`.

Starts a server on an empty data folder, draws a few pictures with the miniature model, and writes docs/images/page-en.png
and page-zh.png, 1280 pixels wide.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.conftest import ROOT, STAGE, WAIT, chromium, draw, finish
from tests.conftest import start_server

PICTURES = {
    "en-US": ("a green tree on a white background", "an orange cat on a blue background"),
    "zh-CN": ("黄色背景上的蓝色圆环", "白色背景上的粉色心形"),
}
"""Prompts by language; the last one is on the stage."""

SEED = "5"

LIMIT = 240_000
"""Bytes; a larger file gets a palette."""


def take(browser: Any, url: str, locale: str, target: Path) -> None:
    """One screenshot of the page with a freshly drawn picture."""
    page = browser.new_context(locale=locale, viewport={"width": 1280, "height": 940}).new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector(STAGE)
    page.wait_for_function("document.querySelector('#dq-model-menu input').value !== ''")
    page.fill("#dq-seed :is(input, textarea)", SEED)
    for prompt in PICTURES[locale]:
        draw(page, prompt)
        finish(page, prompt)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(1500)
    page.screenshot(path=str(target), full_page=True)
    shrink(target)


def shrink(file: Path) -> None:
    """The same picture, as small as PNG makes it."""
    with Image.open(file) as picture:
        whole = picture.convert("RGB")
    whole.save(file, optimize=True)
    if file.stat().st_size > LIMIT:
        whole.quantize(256).save(file, optimize=True)


def main() -> None:
    folder = ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, sync_playwright() as playwright:
        server = start_server(Path(data) / "data")
        try:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            for locale in PICTURES:
                target = folder / f"page-{locale[:2]}.png"
                take(browser, server.base_url, locale, target)
                sys.stdout.write(f"{target.relative_to(ROOT)} {target.stat().st_size // 1000} kB\n")
            browser.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
