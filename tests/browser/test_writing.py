"""Writing prompts: keys, completion, translation, token counts, parameters from a picture, styles, scripts, forever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from tests.browser.conftest import STAGE, Open, draw, finish, shoot
from tests.conftest import Server

PROMPT = "#dq-prompt textarea"
TEXT = (
    "a red star\nNegative prompt: blue\nSteps: 7, Sampler: Euler a, CFG scale: 4, Seed: 99, Size: 96x64, "
    "Denoising strength: 0.55, Hires upscale: 1.5, Hires upscaler: Latent (nearest), Variation seed: 5, "
    "Variation seed strength: 0.25, ENSD: 31337"
)


def put(page: Any, text: str, at: int) -> None:
    page.fill(PROMPT, text)
    page.focus(PROMPT)
    page.evaluate(f"document.querySelector('{PROMPT}').setSelectionRange({at}, {at})")


def test_keys_weigh_and_move_tags(open_page: Open) -> None:
    page = open_page("en-US")
    put(page, "a red star", 3)
    page.keyboard.press("Control+ArrowUp")
    page.keyboard.press("Control+ArrowUp")
    assert page.input_value(PROMPT) == "a (red:1.2) star"
    page.keyboard.press("Control+ArrowDown")
    page.keyboard.press("Control+ArrowDown")
    assert page.input_value(PROMPT) == "a red star"
    put(page, "<lora:ink:1>", 4)
    page.keyboard.press("Control+ArrowDown")
    assert page.input_value(PROMPT) == "<lora:ink:0.95>"
    put(page, "cat, dog, fox", 6)
    page.keyboard.press("Alt+ArrowRight")
    assert page.input_value(PROMPT) == "cat, fox, dog"


def test_completion_translation_and_counts(open_page: Open) -> None:
    page = open_page("zh-CN")
    page.type(PROMPT, "水墨")
    page.wait_for_selector(".dq-terms li")
    shoot(page, "completion-zh")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.input_value(PROMPT).startswith("水墨")
    assert page.is_hidden("#dq-english"), "the miniature model reads Chinese"
    page.click("#dq-translate label:has(input[value=always])")
    page.wait_for_function("document.querySelector('#dq-english textarea').value === 'ink wash painting'")
    page.fill("#dq-english textarea", "an ink painting, mended")
    page.click("#dq-generate")
    finish(page, "an ink painting, mended")
    assert page.inner_text("#dq-prompt .dq-tokens").endswith("/ 75")


def test_a_picture_dropped_on_the_prompt_fills_the_boxes(open_page: Open, tmp_path: Path) -> None:
    page = open_page("en-US")
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("parameters", TEXT)
    path = tmp_path / "drawn.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunk)
    page.evaluate(
        """(bytes) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], 'drawn.png', { type: 'image/png' }));
            document.querySelector('#dq-prompt textarea').dispatchEvent(
                new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }));
        }""",
        list(path.read_bytes()),
    )
    page.wait_for_function("document.querySelector('#dq-seed :is(input, textarea)').value === '99'")
    for box, value in {
        "#dq-steps": "7",
        "#dq-width": "96",
        "#dq-height": "64",
        "#dq-hires-scale": "1.5",
        "#dq-hires-denoise": "0.55",
        "#dq-subseed-strength": "0.25",
    }.items():
        assert page.input_value(f"{box} input[type=number]") == value
    assert page.input_value("#dq-negative textarea") == "blue"
    assert page.input_value("#dq-hires-upscaler input") == "Latent (nearest)"
    assert page.is_visible("#dq-hires-scale")
    assert "eta_noise_seed_delta: 31337" in page.inner_text("#dq-options-pasted")
    shoot(page, "pasted-en")
    page.click("#dq-generate")
    finish(page, "a red star")
    drawn = page.inner_text(f"{STAGE} .dq-info")
    for part in ("Seed: 99", "Hires upscale: 1.5", "Variation seed: 5", "ENSD: 31337", "Sampler: Euler a"):
        assert part in drawn


def test_a_text_is_read_from_the_prompt_and_emptied(open_page: Open) -> None:
    page = open_page("zh-CN")
    page.fill(PROMPT, TEXT)
    page.click("#dq-read")
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a red star'")
    page.click("#dq-clear")
    assert page.input_value(PROMPT) == ""


def test_styles_are_kept_applied_and_deleted(open_page: Open, site: Server) -> None:
    page = open_page("en-US")
    page.on("dialog", lambda dialog: dialog.accept("ink"))
    page.fill(PROMPT, "ink painting")
    page.click("#dq-style-save")
    page.wait_for_selector("#dq-styles .token")
    assert "ink painting" in (site.data / "styles.csv").read_text("utf-8-sig")
    page.fill(PROMPT, "a cat")
    page.click("#dq-style-apply")
    page.wait_for_function(f"document.querySelector('{PROMPT}').value === 'a cat, ink painting'")


def test_a_plot_of_two_seeds(open_page: Open) -> None:
    page = open_page("zh-CN")
    page.click("#dq-script-txt2img input")
    page.click("[role=option] >> text=X/Y/Z")
    box = "#dq-script-x-y-z-plot-x-values :is(textarea, input)"
    page.wait_for_selector(box)
    page.fill(box, "1,2")
    shoot(page, "plot-zh")
    draw(page, "plotted star", steps=3)
    finish(page, "plotted star")
    assert "X Type: Seed" in page.inner_text(f"{STAGE} .dq-info")


def test_draws_on_and_on(open_page: Open) -> None:
    page = open_page("en-US")
    thumbs = "[...document.querySelectorAll('#dq-history .dq-thumb')].map((thumb) => thumb.dataset.id)"
    before = page.evaluate(thumbs)
    page.click("#dq-forever")
    draw(page, "again and again", steps=2)
    page.wait_for_function(f"(before) => {thumbs}.filter((id) => !before.includes(id)).length >= 2", arg=before)
    page.click("#dq-forever")
    assert page.get_attribute("#dq-forever", "aria-pressed") == "false"
    page.wait_for_selector(f'{STAGE}[data-state="shown"]')
