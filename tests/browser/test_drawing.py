"""A person's way through the page: the first picture, stopping, coming back, two at once."""

from __future__ import annotations

from tests.browser.conftest import BUSY, DRAWN, STAGE, Open, draw, finish, shoot
from tests.conftest import Server

NASTY = "<img src=x onerror=window.hacked=1> ${window.hacked=2} {{7*7}} `'\"&"


def test_prompt_and_keys_in_english_with_live_preview(open_page: Open) -> None:
    page = open_page("en-US")
    draw(page, "a yellow circle on a blue background", steps=60)
    page.wait_for_selector(BUSY)
    page.wait_for_selector(".dq-preview")
    assert page.locator(".dq-preview").get_attribute("src").startswith("data:image/png;base64,")
    page.wait_for_function("/^Step \\d+ of 60/.test(document.querySelector('#dq-stage .dq-line').innerText)")
    assert "%" in page.title()
    assert page.is_visible("#dq-interrupt")
    finish(page, "a yellow circle")
    assert page.inner_text(f"{STAGE} .dq-line").startswith("Done in ")
    assert page.is_hidden("#dq-interrupt")
    assert page.title() == "Danqing 丹青"
    assert "Steps: 60" in page.inner_text(f"{STAGE} .dq-info")


def test_stop_keeps_what_is_there(open_page: Open) -> None:
    page = open_page("zh-TW")
    draw(page, "a stopped star", steps=150)
    page.wait_for_selector(".dq-preview")
    page.keyboard.press("Escape")
    finish(page, "a stopped star")
    assert "已提前停止" in page.inner_text(f"{STAGE} .dq-line")


def test_what_is_written_and_not_drawn_outlives_a_reload(open_page: Open) -> None:
    """Another language, a new server, a slip of the finger; another tab starts without it."""
    page = open_page("en-US")
    page.fill("#dq-prompt textarea", "a long thought, not finished")
    page.fill("#dq-negative textarea", "haste")
    page.wait_for_timeout(1000)  # what the page still asks for would be cut off, which the console tells of
    page.reload()
    page.wait_for_function("document.querySelector('#dq-prompt textarea')?.value === 'a long thought, not finished'")
    assert page.input_value("#dq-negative textarea") == "haste"
    page.wait_for_timeout(1000)
    page.click("#dq-language button")
    page.wait_for_function("document.querySelector('#dq-generate')?.innerText === '开始绘制'")
    page.wait_for_function("document.querySelector('#dq-prompt textarea')?.value === 'a long thought, not finished'")
    page.fill("#dq-prompt textarea", "")
    page.wait_for_timeout(1000)
    page.reload()
    page.wait_for_function("document.querySelector('#dq-negative textarea')?.value === 'haste'")
    assert page.input_value("#dq-prompt textarea") == ""


def test_reload_comes_back_to_the_running_job_and_the_settings(open_page: Open) -> None:
    page = open_page("en-US")
    draw(page, "a star that outlives a reload", steps=150)
    page.wait_for_selector(".dq-preview")
    page.reload()
    page.wait_for_selector(BUSY)
    page.wait_for_selector(".dq-preview")
    page.wait_for_function("document.querySelector('#dq-prompt textarea').value.startsWith('a star that outlives')")
    assert page.input_value("#dq-steps input[type=number]") == "150"
    finish(page, "a star that outlives a reload")
    assert "Done in" in page.inner_text(f"{STAGE} .dq-line")


def test_two_at_once_see_their_own(open_page: Open) -> None:
    left, right = open_page("en-US"), open_page("zh-HK")
    draw(left, "left: a green square", steps=40)
    draw(right, "right: a pink heart", steps=40)
    finish(left, "left: a green square")
    finish(right, "right: a pink heart")
    assert "Done in" in left.inner_text(f"{STAGE} .dq-line")
    assert "完成" in right.inner_text(f"{STAGE} .dq-line")
    assert right.inner_text("#dq-generate") == "开始绘制"


def test_a_second_job_is_drawn_after_the_first(open_page: Open) -> None:
    page = open_page("en-US")
    draw(page, "one of two", steps=60)
    page.wait_for_selector(".dq-preview")
    draw(page, "two of two")
    page.wait_for_function("document.querySelector('#dq-stage .dq-line').innerText.includes('1 more of yours')")
    finish(page, "two of two")
    texts = page.eval_on_selector_all("#dq-history .dq-thumb", "all => all.slice(0, 2).map(one => one.title)")
    assert sorted(texts) == ["one of two", "two of two"]


def test_batches_can_be_picked_and_viewed_large(open_page: Open) -> None:
    page = open_page("en-US")
    page.fill("#dq-n-iter input[type=number]", "3")
    page.press("#dq-n-iter input[type=number]", "Tab")
    draw(page, "three hearts", steps=8)
    finish(page, "three hearts")
    assert "3 pictures in" in page.inner_text(f"{STAGE} .dq-line")
    thumbs = page.locator("#dq-stage .dq-thumb")
    assert thumbs.count() == 3
    second = thumbs.nth(1).get_attribute("data-id")
    thumbs.nth(1).click()
    assert page.get_attribute(STAGE, "data-id") == second
    assert page.get_attribute(".dq-zoom img", "src") == f"/pictures/{second}"
    assert thumbs.nth(1).get_attribute("aria-current") == "true"
    shoot(page, "batch-en")
    page.click(".dq-zoom")
    page.wait_for_selector("#dq-large[open]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"!document.querySelector('#dq-large img').src.endsWith('{second}')")
    shoot(page, "large-en")
    page.keyboard.press("Escape")
    page.wait_for_selector("#dq-large", state="detached")


def test_settings_and_seed_of_an_earlier_picture(open_page: Open) -> None:
    page = open_page("zh-CN")
    page.click("#dq-aspects button >> text=16:9")
    page.wait_for_function("document.querySelector('#dq-width input[type=number]').value === '168'")
    page.click("#dq-swap")
    page.wait_for_function("document.querySelector('#dq-height input[type=number]').value === '168'")
    draw(page, "a tall picture", steps=9)
    finish(page, "a tall picture")
    seed = page.inner_text(f"{STAGE} .dq-info").split("Seed: ")[1].split(",")[0]
    page.click("#dq-seed-reuse")
    page.wait_for_function(f"document.querySelector('#dq-seed :is(input, textarea)').value === '{seed}'")
    page.click("#dq-seed-random")
    page.wait_for_function("document.querySelector('#dq-seed :is(input, textarea)').value === '-1'")
    page.fill("#dq-prompt textarea", "something else")
    page.click("#dq-aspects button >> text=1:1")
    page.click("#dq-history .dq-thumb >> nth=0")
    page.click("#dq-large >> text=使用这些参数")
    page.wait_for_function("document.querySelector('#dq-prompt textarea').value === 'a tall picture'")
    assert page.input_value("#dq-height input[type=number]") == "168"
    assert page.input_value("#dq-seed :is(input, textarea)") == seed


def test_download_and_copy(open_page: Open) -> None:
    page = open_page("en-US")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    before = page.locator("#dq-history .dq-thumb").count()
    page.fill("#dq-steps input[type=number]", "5")
    page.fill("#dq-prompt textarea", "to take away")
    page.dblclick("#dq-generate")
    finish(page, "to take away")
    assert page.locator("#dq-history .dq-thumb").count() == before + 1, "a double click draws once"
    with page.expect_download() as waiting:
        page.click("#dq-stage >> text=Download")
    assert waiting.value.suggested_filename.endswith(".png")
    page.click("#dq-stage >> text=Copy text")
    page.wait_for_selector("#dq-stage >> text=Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("to take away\nSteps: 5")


def test_what_people_write_is_never_run(open_page: Open, site: Server) -> None:
    page = open_page("en-US")
    draw(page, NASTY, steps=5)
    page.wait_for_selector(DRAWN)
    finish(page, NASTY)
    page.click("#dq-history .dq-thumb >> nth=0")
    page.wait_for_selector("#dq-large[open]")
    assert page.inner_text("#dq-large .dq-info").startswith(NASTY)
    again = open_page("zh-CN")
    again.wait_for_selector(DRAWN)
    for one in (page, again):
        assert one.evaluate("window.hacked") is None
        assert one.get_attribute(".dq-zoom img", "alt") == NASTY
