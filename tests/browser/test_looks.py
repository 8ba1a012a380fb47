"""How the page looks and speaks: both languages, light and dark, phone and desk, keyboard."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import Open, draw, finish, shoot

SIZES = {"phone": 360, "desk": 1280}
TOAST = "[data-testid=toast-text]"
SEED = "#dq-seed :is(input, textarea)"
PROPER_NAMES = {"Danqing", "CFG", "DPM", "danqing", "mini", "CLIP", "ControlNet", "LoRA", "VAE"}


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_page_fits_phone_and_desk_light_and_dark(open_page: Open, locale: str) -> None:
    page = open_page(locale)
    prompt = "a red star on a white background"
    draw(page, prompt, steps=20)
    finish(page, prompt)
    for size, width in SIZES.items():
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(f"document.body.classList.contains('dark') === {str(scheme == 'dark').lower()}")
            shoot(page, f"page-{locale[:2]}-{scheme}-{size}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.lang").startswith(locale[:2])


NOT = "blurry, text, extra fingers"


@pytest.mark.parametrize(("locale", "chinese"), [("zh", True), ("zh-SG", True), ("fr-FR", False)])
def test_language_follows_the_browser(open_page: Open, locale: str, chinese: bool) -> None:
    page = open_page(locale)
    assert page.inner_text("#dq-generate") == ("开始绘制" if chinese else "Draw")
    assert page.inner_text("#dq-past .dq-heading") == ("我的作品" if chinese else "My pictures")
    assert page.input_value("#dq-scheduler input") == ("自动" if chinese else "Automatic")
    assert ("逐步细化" if chinese else "How often the picture is refined") in page.get_attribute("#dq-steps", "title")
    page.click(".dq-guide summary")
    page.click("[data-try][data-negative-en]")
    prompts = [page.input_value(f"{box} textarea") for box in ("#dq-prompt", "#dq-negative")]
    assert prompts == (
        ["老人肖像，油画", "模糊，文字，多余的手指"] if chinese else ["portrait of an old man, oil painting", NOT]
    )


def test_no_english_is_left_on_the_chinese_page(open_page: Open) -> None:
    page = open_page("zh-CN")
    info = page.eval_on_selector_all(".dq-info", "all => all.map(one => one.innerText).join(' ')")
    text = page.inner_text("body").replace(info.strip(), "")
    assert set(re.findall(r"[A-Za-z]{3,}", text)) <= PROPER_NAMES
    spoken = page.eval_on_selector_all(
        "#dq-desk :is(button, input, textarea)", "all => all.map(one => one.ariaLabel || one.title || '')"
    )
    assert not [label for label in spoken if re.search(r"number input|range slider", label)]


def test_reader_chooses_light_or_dark_and_it_stays(open_page: Open) -> None:
    page = open_page("en-US", scheme="light")
    page.click("#dq-theme button")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.reload()
    page.wait_for_selector("#dq-stage .dq-stage")
    assert page.evaluate("document.body.classList.contains('dark')")


@pytest.mark.parametrize(
    ("locale", "refusals"),
    [
        (
            "en-US",
            {
                "ten": "Seed must be a finite number.",
                "9" * 20: f"Seed is {'9' * 20}; it must lie between -1 and 9223372036854775807.",
            },
        ),
        ("zh-CN", {"1.5": "随机种子为 1.5，必须是整数。", "NaN": "随机种子必须是有限的数字。"}),
    ],
)
def test_bad_values_are_a_sentence(open_page: Open, locale: str, refusals: dict[str, str]) -> None:
    page = open_page(locale)
    for seed, sentence in refusals.items():
        page.fill(SEED, seed)
        page.press(SEED, "Control+Enter")
        page.wait_for_selector(TOAST)
        assert page.inner_text(TOAST) == sentence
        shoot(page, f"refused-{locale[:2]}")
        page.click("[data-testid=toast-close]")
        page.wait_for_selector(TOAST, state="detached")
    assert "Traceback" not in page.content()


def test_a_prompt_that_is_too_long_is_refused(open_page: Open) -> None:
    page = open_page("zh-CN")
    page.fill("#dq-prompt textarea", "长" * 30_000)
    page.press("#dq-prompt textarea", "Control+Enter")
    page.wait_for_selector(TOAST)
    assert "提示词有 30000 个字符" in page.inner_text(TOAST)


def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page: Open) -> None:
    page = open_page("en-US")
    nameless = page.eval_on_selector_all(
        "button, a[href], input, textarea, [role=listbox]",
        """all => all.filter(one => one.offsetParent).filter(one => {
            const label = one.labels?.[0]?.innerText || one.ariaLabel || one.title || one.innerText;
            return !(label || one.querySelector('img')?.alt)?.trim();
        }).map(one => one.outerHTML.slice(0, 200))""",
    )
    assert nameless == []
    page.keyboard.press("Tab")
    reached = set()
    for _ in range(90):
        reached.add(page.evaluate("document.activeElement.closest('[id^=dq-]')?.id || ''"))
        page.keyboard.press("Tab")
    assert {"dq-prompt", "dq-negative", "dq-generate", "dq-steps", "dq-seed", "dq-refresh", "dq-stage"} <= reached
    assert page.eval_on_selector_all("img", "all => all.every(one => one.alt)")
