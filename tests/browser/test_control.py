"""A ControlNet unit on the page: its type, previews, a sheet to draw on, and the pose editor, by pointer and by keyboard."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest
from PIL import Image

from danqing.control import pose
from danqing.mini.control_data import case, key_points
from danqing.mini.control_judge import pose_followed
from danqing.mini.scenes import SIZE
from tests.browser.conftest import STAGE, WAIT, Open, draw, finish, shoot
from tests.conftest import Server

UNIT = "#dq-control-0"
MAP = "[data-map='0']"
USE = ".dq-edit footer .dq-button"


def unfold(page: Any) -> None:
    page.click(f"{UNIT} > button")
    page.wait_for_selector("#dq-control0-pose")


def value(page: Any, part: str) -> str:
    return str(page.input_value(f"#dq-control0-{part} input"))


def pick(page: Any, part: str, text: str) -> None:
    """Chooses in a menu, as a person does who types a part of the name."""
    page.click(f"#dq-control0-{part} input")
    page.fill(f"#dq-control0-{part} input", text)
    page.click(f"[role=option] >> text={text}")


def joint(page: Any, number: int) -> Any:
    return page.locator(f'.dq-edit circle[data-joint="{number}"]')


def place(page: Any, number: int) -> tuple[float, float]:
    return float(joint(page, number).get_attribute("cx")), float(joint(page, number).get_attribute("cy"))


@pytest.fixture
def figure(tmp_path: Path) -> tuple[Any, Path]:
    """A scene with a person in a pose without a name, and its key points in OpenPose's JSON."""
    scene = case("pose", 10**9 + 3, exact=True).scene
    points = tuple((x / SIZE, y / SIZE) for x, y in key_points(scene.things[0]))
    file = tmp_path / "pose.json"
    file.write_text(json.dumps(pose.to_json(pose.Pose((pose.Person(points),), SIZE, SIZE))), "utf-8")
    return scene, file


def test_a_pose_is_edited_and_drawn(open_page: Open, figure: tuple[Any, Path], tmp_path: Path) -> None:
    scene, file = figure
    page = open_page("en-US")
    unfold(page)
    page.click("#dq-control0-pose")
    page.wait_for_selector('.dq-edit circle[data-joint="0"]')
    assert page.locator(".dq-edit circle[data-joint]").count() == 18
    shoot(page, "pose-blank-en")

    before = place(page, 4)
    joint(page, 4).focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert place(page, 4) == pytest.approx((before[0] - 1, before[1] - 8), abs=0.01)
    page.keyboard.press("Delete")
    assert joint(page, 4).count() == 0
    page.click(".dq-edit >> text=Undo")
    box = joint(page, 4).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert place(page, 4)[0] > before[0] + 4

    page.set_input_files(".dq-edit input[type=file]", str(file))
    wanted = key_points(scene.things[0])
    page.wait_for_function(
        "([x]) => Math.abs(document.querySelector('.dq-edit circle[data-joint=\"4\"]').getAttribute('cx') - x) < 0.1",
        arg=[wanted[4][0]],
    )
    with page.expect_download() as saved:
        page.click(".dq-edit >> text=Save JSON")
    saved.value.save_as(tmp_path / "saved.json")
    read = pose.from_json(json.loads((tmp_path / "saved.json").read_text("utf-8")))
    assert (read.width, read.height) == (SIZE, SIZE)
    assert np.abs(np.array(read.people[0].body) * SIZE - np.array(wanted)).max() < 0.1
    shoot(page, "pose-en")
    page.click(USE)
    page.wait_for_selector(".dq-edit", state="detached")
    page.wait_for_function(
        "document.querySelector('#dq-control0-model input').value.startsWith('danqing-mini-openpose')"
    )
    assert (value(page, "module"), value(page, "type")) == ("None", "OpenPose")
    assert page.is_checked("#dq-control0-on input")

    thing = scene.things[0]
    prompt = f"a person in a {thing.colour} shirt, {scene.background} background"
    draw(page, prompt, steps=20)
    finish(page, prompt)
    assert "ControlNet 0" in page.inner_text(f"{STAGE} .dq-info")
    address = page.get_attribute(f"{STAGE} .dq-zoom img", "src")
    drawn = np.asarray(Image.open(io.BytesIO(page.request.get(urljoin(page.url, address)).body())).convert("RGB"))
    assert pose_followed(drawn, scene, drawn).share >= 0.7
    shoot(page, "pose-drawn-en")


def test_a_sheet_to_draw_on_types_and_previews(open_page: Open, tmp_path: Path) -> None:
    page = open_page("zh-CN", width=390, height=844)
    unfold(page)
    pick(page, "type", "Canny")
    page.wait_for_function("document.querySelector('#dq-control0-model input').value.startsWith('danqing-mini-canny')")
    assert value(page, "module") == "canny"
    page.click("#dq-control0-preview")
    page.wait_for_selector(f"{MAP} [role=alert]")
    assert page.inner_text(f"{MAP} [role=alert]") == "还没有图片。"

    page.click("#dq-control0-sketch")
    area = page.locator(".dq-edit canvas").bounding_box()
    page.mouse.move(area["x"] + 20, area["y"] + 30)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 20, area["y"] + area["height"] - 30, steps=5)
    page.mouse.up()
    shoot(page, "sketch-phone-zh")
    page.click(USE)
    page.wait_for_selector(".dq-edit", state="detached")
    page.wait_for_function("document.querySelector('#dq-control0-module input').value === '无'")
    assert value(page, "model").startswith("danqing-mini-canny")
    name = page.input_value("#dq-control0-image :is(textarea, input)")
    sheet = np.asarray(
        Image.open(io.BytesIO(page.request.get(urljoin(page.url, f"/ui/inputs/{name}")).body())).convert("L")
    )
    assert sheet.shape == (SIZE, SIZE)
    assert (sheet[SIZE // 2, SIZE // 2 - 8 : SIZE // 2 + 8].max(), sheet[SIZE - 4, 4]) == (255, 0)

    pick(page, "type", "Canny")
    page.click("#dq-control0-preview")
    page.wait_for_selector(f"{MAP} img")
    shoot(page, "preview-phone-zh")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_preview_without_weights_names_the_file_in_the_readers_language(site: Server, browser: Any) -> None:
    """Outside of `open_page`, whose console must stay empty: a browser writes every refusal into it."""
    context = browser.new_context(locale="zh-CN")
    context.set_default_timeout(WAIT)
    try:
        page = context.new_page()
        page.goto(site.base_url)
        page.wait_for_function("document.querySelector('#dq-model-menu input')?.value")
        unfold(page)
        pick(page, "type", "Depth")
        page.click("#dq-control0-sketch")
        page.click(USE)
        page.wait_for_selector(".dq-edit", state="detached")
        pick(page, "type", "Canny")
        pick(page, "type", "Depth")
        page.wait_for_function("document.querySelector('#dq-control0-module input').value === 'depth_midas'")
        page.click("#dq-control0-preview")
        page.wait_for_selector(f"{MAP} [role=alert]")
        said = page.inner_text(f"{MAP} [role=alert]")
        assert "dpt_hybrid-midas-501f0c75.pt" in said
        assert "danqing.library.fetch" in said
        assert "下载方法" in said
    finally:
        context.close()


def test_a_depth_map_of_ones_own_is_drawn_with(open_page: Open, tmp_path: Path) -> None:
    one = case("depth", 10**9 + 1, held_out=True, exact=True)
    file = tmp_path / "depth.png"
    Image.fromarray(one.hint).save(file)
    page = open_page("en-US")
    unfold(page)
    pick(page, "type", "Depth")
    page.set_input_files(f"{UNIT} input[type=file]", str(file))
    page.wait_for_selector("[data-well=control0_image] .dq-tools:not([hidden])")
    page.click("#dq-control0-is-map")
    page.wait_for_function("document.querySelector('#dq-control0-module input').value === 'None'")
    assert value(page, "model").startswith("danqing-mini-depth")
    assert page.is_checked("#dq-control0-on input")
    prompt = "a red circle and a blue square, white background"
    draw(page, prompt, steps=4)
    finish(page, prompt)
    assert "danqing-mini-depth" in page.inner_text(f"{STAGE} .dq-info")
