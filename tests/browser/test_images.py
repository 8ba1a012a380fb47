"""The tabs that begin with a picture: image to image with a sketch and a batch, inpainting, upscaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser.conftest import BUSY, DRAWN, STAGE, Open, draw, finish, shoot


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two plain pictures."""
    paths = []
    for name, colour in (("green", (40, 160, 60)), ("blue", (40, 60, 200))):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (128, 96), colour).save(path)
        paths.append(path)
    return paths


def tab(page: Any, name: str) -> None:
    page.click(f"#dq-tabs label:has(input[value={name}])")
    page.wait_for_function(f"document.body.dataset.tab === '{name}'")


def choose(page: Any, well: str, *files: Path) -> None:
    page.set_input_files(f"[data-well={well}] input[type=file]", [str(file) for file in files])
    page.wait_for_selector(f"[data-well={well}] .dq-tools:not([hidden])")


def stroke(page: Any, well: str) -> None:
    """A stroke of the brush through the middle."""
    canvas = page.locator(f"[data-well={well}] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 20, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, middle, steps=4)
    page.mouse.up()


def info(page: Any) -> str:
    return str(page.inner_text(f"{STAGE} .dq-info"))


def test_a_picture_and_a_sketch_on_it(open_page: Open, photos: list[Path]) -> None:
    page = open_page("zh-CN")
    tab(page, "img2img")
    assert page.is_hidden("#dq-hires-on")
    choose(page, "init", photos[0])
    assert page.input_value("#dq-height input[type=number]") == "96"
    page.click("[data-well=init] [data-well-do=brush]")
    stroke(page, "init")
    shoot(page, "img2img-zh")
    page.fill("#dq-denoise input[type=number]", "0.5")
    page.press("#dq-denoise input[type=number]", "Tab")
    draw(page, "绿色背景上的红色圆环", steps=6)
    finish(page, "绿色背景上的红色圆环")
    assert "Denoising strength: 0.5" in info(page)
    assert "Size: 128x96" in info(page)
    assert len(page.input_value("#dq-init-sketch :is(textarea, input)")) == 64
    page.click("[data-well=init] [data-well-do=remove]")
    assert page.is_visible("[data-well=init] .dq-drop")


def test_without_a_picture_there_is_a_sentence(open_page: Open) -> None:
    page = open_page("en-US")
    tab(page, "img2img")
    page.click("#dq-generate")
    page.wait_for_selector("[data-testid=toast-text]")
    assert page.inner_text("[data-testid=toast-text]").strip()
    page.click("[data-testid=toast-close]")


DROP = """([place, name, type, bytes]) => {
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(bytes)], name, { type }));
    const drop = new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true });
    document.querySelector(place).dispatchEvent(drop);
    return drop.defaultPrevented;
}"""


def test_files_dropped_anywhere_never_replace_the_page(open_page: Open, photos: list[Path], tmp_path: Path) -> None:
    page = open_page("zh-CN")
    notice = ".dq-notice >> text=无法作为图片读取"
    assert page.evaluate(DROP, ["#dq-history", "words.pdf", "application/pdf", [37, 80]])
    page.wait_for_selector(notice)
    tab(page, "inpaint")
    assert page.evaluate(DROP, ["#dq-begin", "green.png", "image/png", list(photos[0].read_bytes())])
    page.wait_for_selector("[data-well=inpaint_image] .dq-tools:not([hidden])")
    broken = tmp_path / "mask.png"
    broken.write_bytes(b"no mask")
    page.evaluate("document.querySelectorAll('.dq-notice').forEach((one) => one.remove())")
    with page.expect_file_chooser() as chooser:
        page.click("[data-well=inpaint_image] [data-well-do=mask]")
    chooser.value.set_files(str(broken))
    page.wait_for_selector(notice)
    assert page.is_visible("[data-well=inpaint_image] .dq-board"), "the picture stays"


def test_several_pictures_are_a_batch(open_page: Open, photos: list[Path]) -> None:
    page = open_page("en-US")
    tab(page, "img2img")
    choose(page, "init", *photos)
    assert page.locator("[data-well=init] .dq-tray img").count() == 2
    before = page.locator("#dq-history .dq-thumb").count()
    draw(page, "a batch of two", steps=4)
    page.wait_for_function(f"document.querySelectorAll('#dq-history .dq-thumb').length === {before + 2}")


def test_inpainting_paints_where_the_brush_was(open_page: Open, photos: list[Path]) -> None:
    page = open_page("en-US")
    tab(page, "inpaint")
    choose(page, "inpaint_image", photos[1])
    stroke(page, "inpaint_image")
    page.click("#dq-mask-area label:has(input[value='1'])")
    assert page.is_visible("#dq-mask-padding")
    shoot(page, "inpaint-en")
    draw(page, "inpaint: a yellow star", steps=6)
    finish(page, "inpaint: a yellow star")
    assert "Mask blur: 4" in info(page)
    corner = page.evaluate(
        """async () => {
            const image = document.querySelector('.dq-zoom img');
            await image.decode();
            const sheet = Object.assign(document.createElement('canvas'), { width: 128, height: 96 });
            sheet.getContext('2d').drawImage(image, 0, 0);
            return [...sheet.getContext('2d').getImageData(2, 2, 1, 1).data];
        }"""
    )
    assert corner[:3] == [40, 60, 200], "what was not painted over stays"


def test_a_drawn_picture_is_sent_on_and_upscaled(open_page: Open) -> None:
    page = open_page("zh-CN")
    draw(page, "一只要放大的猫", steps=4)
    finish(page, "一只要放大的猫")
    page.click(f"{STAGE} [data-do=send][data-tab=extras]")
    page.wait_for_function("document.body.dataset.tab === 'extras'")
    page.wait_for_selector("[data-well=extras_images] .dq-tools:not([hidden])")
    assert page.is_hidden("#dq-prompt")
    shoot(page, "extras-zh")
    page.click("#dq-enlarge")
    page.wait_for_selector(BUSY)
    page.wait_for_selector(DRAWN)
    page.wait_for_function("document.querySelector('.dq-zoom img')?.naturalWidth === 256")
    assert "Postprocess upscale by: 2" in info(page)


def test_hires_fix_for_a_finished_picture(open_page: Open) -> None:
    page = open_page("en-US")
    draw(page, "to be finer", steps=3)
    finish(page, "to be finer")
    page.fill("#dq-steps input[type=number]", "4")
    page.press("#dq-steps input[type=number]", "Tab")
    page.click(f"{STAGE} [data-do=hires]")
    page.wait_for_function("document.querySelector('.dq-zoom img')?.naturalWidth === 256")
    assert "Hires upscale: 2" in info(page)
