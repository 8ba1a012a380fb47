"""The handlers that fill the boxes: models, sizes, seeds, examples, settings of a picture."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from danqing.prompt.styles import Style, save_styles
from danqing.ui.pasting import styles_found
from tests.ui.conftest import Desk, a_request, event, picture

MINI = "danqing-mini.safetensors [ababababab]"


def run(work: Any) -> Any:
    return asyncio.run(work)


def value(update: Any) -> Any:
    return update["value"] if isinstance(update, dict) else update.value


def test_first_look_is_the_models_own_size_in_the_readers_language(desk: Desk) -> None:
    boxes = desk.named(run(desk.boxes.first_look(desk.data(draft=None), a_request("zh"))))
    assert (value(boxes["width"]), value(boxes["height"]), value(boxes["model"])) == (128, 128, MINI)
    assert boxes["width"].maximum == 512
    assert boxes["cfg_scale"] == 5
    assert ("自动", "Automatic") in boxes["scheduler"].choices
    assert ("与首轮相同", "") in boxes["hires_checkpoint"].choices


def test_first_look_brings_back_what_this_browser_drew(desk: Desk) -> None:
    draft = {"prompt": "云", "steps": 7, "width": 192, "height": 96, "model": "large.safetensors", "seed": "5"}
    boxes = desk.named(run(desk.boxes.first_look(desk.data(draft=draft), a_request())))
    assert (boxes["prompt"], boxes["steps"], boxes["seed"]) == ("云", 7, "5")
    assert (value(boxes["width"]), value(boxes["height"]), value(boxes["model"])) == (192, 96, "large.safetensors")


@pytest.mark.parametrize("draft", ["text", 5, [], {"prompt": {"a": 1}, "width": [1], "steps": None, "other": "x"}])
def test_a_broken_draft_is_left_alone(desk: Desk, draft: Any) -> None:
    boxes = desk.named(run(desk.boxes.first_look(desk.data(draft=draft), a_request())))
    assert "prompt" not in boxes
    assert value(boxes["width"]) == 128


def test_another_model_brings_its_size(desk: Desk) -> None:
    boxes = desk.named(run(desk.boxes.model_chosen(desk.data(model="large.safetensors"), a_request())))
    assert (value(boxes["width"]), value(boxes["height"]), boxes["width"].maximum) == (512, 512, 2048)
    assert boxes["cfg_scale"] == 7
    wide = desk.named(run(desk.boxes.aspect("16:9")(desk.data(model=MINI), a_request())))
    assert (value(wide["width"]), value(wide["height"])) == (168, 96)


def test_a_vae_is_used_by_its_name(desk: Desk) -> None:
    assert (
        value(desk.named(run(desk.boxes.vae_named(desk.data(model=MINI), event(name="None"), a_request())))["vae"])
        == "None"
    )
    gone = desk.named(run(desk.boxes.vae_named(desk.data(model=MINI), event(name="gone.pt"), a_request())))["vae"]
    assert "value" not in gone.constructor_args, "what is no longer there changes nothing"


def test_example_fills_the_prompt(desk: Desk) -> None:
    for index in (1, 99, "x", None):
        boxes = desk.named(run(desk.boxes.example(desk.data(model=MINI), event(index=index), a_request("zh"))))
        assert boxes["prompt"]


def test_settings_of_a_picture(desk: Desk) -> None:
    desk.service.gallery.all.append(picture(77))
    boxes = desk.named(run(desk.boxes.use(desk.data(model=MINI), event(picture="p77"), a_request())))
    assert (boxes["prompt"], boxes["steps"], boxes["sampler"], boxes["cfg_scale"]) == ("a red star", 9, "Euler", 4.0)
    assert (value(boxes["width"]), value(boxes["height"]), boxes["seed"], boxes["model"]) == (96, 64, "77", MINI)


def test_styles_in_a_pasted_prompt_are_chosen_again(desk: Desk, tmp_path: Path) -> None:
    desk.service.gallery.data = tmp_path
    save_styles(tmp_path / "styles.csv", [Style("ink", "ink drawing of {prompt}", "colour")])
    end = "Steps: 5, Sampler: Euler, CFG scale: 7"
    text = f"ink drawing of a cat\nNegative prompt: dog, colour\n{end}"
    boxes = desk.named(run(desk.boxes.paste(desk.data(model=MINI), event(text=text), a_request())))
    assert (boxes["prompt"], boxes["negative_prompt"], boxes["styles"]) == ("a cat", "dog", ["ink"])
    plain = desk.named(run(desk.boxes.paste(desk.data(model=MINI), event(text=f"a cat\n{end}"), a_request())))
    assert plain["prompt"] == "a cat"
    assert "styles" not in plain


@pytest.mark.parametrize(
    ("how", "with_style", "without"),
    [
        ("Ignore", {}, {}),
        ("Apply", {"prompt": "a cat", "negative_prompt": "", "styles": ["ink"]}, {"styles": []}),
        ("Discard", {"prompt": "a cat", "negative_prompt": ""}, {}),
        ("Apply if any", {"prompt": "a cat", "negative_prompt": "", "styles": ["ink"]}, {}),
    ],
)
def test_what_becomes_of_styles_in_a_text_is_an_option(how: str, with_style: object, without: object) -> None:
    known = [Style("ink", "in ink", "")]
    assert styles_found({"prompt": "a cat, in ink"}, known, how) == with_style
    assert styles_found({"prompt": "a cat"}, known, how) == without
    assert styles_found({"steps": 3}, known, how) == {}


def test_pictures_of_others_are_unknown(desk: Desk) -> None:
    desk.service.gallery.all.append(picture(1, owner="bob"))
    for wanted in ("p1", "p2", "", None, 5):
        with pytest.raises(gr.Error) as theirs:
            run(desk.boxes.use(desk.data(model=MINI), event(picture=wanted), a_request()))
        assert "a red star" not in theirs.value.message


def test_seed_of_the_picture_shown(desk: Desk) -> None:
    desk.service.gallery.all.append(picture(12345678901))
    boxes = desk.named(run(desk.boxes.reuse_seed(desk.data(picked="p12345678901"), a_request())))
    assert boxes["seed"] == "12345678901"
    with pytest.raises(gr.Error, match="还没有"):
        run(desk.boxes.reuse_seed(desk.data(picked=""), a_request("zh")))


def test_refresh_keeps_the_choice(desk: Desk) -> None:
    boxes = desk.named(run(desk.boxes.refresh(desk.data(model="large.safetensors"), a_request())))
    assert value(boxes["model"]) == "large.safetensors"
    assert len(boxes["model"].choices) == 2


def test_what_is_seen_in_the_tabs_picture_becomes_the_prompt(desk: Desk) -> None:
    wells = {"init": f"{'a' * 64} {'b' * 64}", "inpaint_image": "c" * 64}
    for tab, name, seen in (("img2img", "clip", "aaaa"), ("inpaint", "deepdanbooru", "cccc")):
        boxes = desk.named(run(desk.boxes.interrogate(name)(desk.data(tab=tab, **wells), a_request())))
        assert boxes == {"prompt": f"{name} sees {seen} with 1"}
    with pytest.raises(gr.Error, match="缺少图片"):
        run(desk.boxes.interrogate("clip")(desk.data(tab="img2img", init="", inpaint_image=""), a_request("zh")))


def test_a_control_type_offers_what_belongs_to_it(desk: Desk) -> None:
    given = desk.data(control1_type="Canny", model=MINI)
    boxes = desk.named(run(desk.boxes.control_type(1)(given, a_request("zh"))))
    assert [name for _, name in boxes["control1_module"].choices] == ["none", "canny", "invert"]
    assert value(boxes["control1_module"]) == "canny"
    titles = [title for _, title in boxes["control1_model"].choices]
    assert boxes["control1_model"].choices[0] == ("无", "None")
    assert titles[1].startswith("danqing-mini-canny [")
    assert value(boxes["control1_model"]) == titles[1]
    other = desk.named(run(desk.boxes.control_type(1)(desk.data(control1_type="Canny", model="large"), a_request())))
    assert value(other["control1_model"]) == "None"
    every = desk.named(run(desk.boxes.control_type(0)(desk.data(control0_type="All", model=MINI), a_request())))
    assert len(every["control0_module"].choices) > 60
    assert (value(every["control0_module"]), value(every["control0_model"])) == ("none", "None")


def test_a_map_made_on_the_page_is_taken_as_it_is(desk: Desk) -> None:
    given = desk.data(control0_made="pose 1", control0_model="None", control0_module="canny", model=MINI)
    boxes = desk.named(run(desk.boxes.control_made(0)(given, a_request())))
    assert boxes["control0_on"] is True
    assert boxes["control0_type"] == "OpenPose"
    assert value(boxes["control0_module"]) == "none"
    given = desk.data(control0_made="pose 2", control0_model="mine [12345678]", control0_module="canny", model=MINI)
    kept = desk.named(run(desk.boxes.control_made(0)(given, a_request())))
    assert kept == {"control0_module": "none", "control0_on": True}
