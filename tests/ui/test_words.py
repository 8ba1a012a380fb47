"""The table of words: both languages, the same fields, nothing on the page outside it."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import danqing.ui
from danqing.control.catalog import TYPES
from danqing.engine.scripts.axes import AXES
from danqing.engine.scripts.table import SCRIPTS
from danqing.errors import DanqingError
from danqing.request import GenerateRequest
from danqing.ui import scripts, units
from danqing.ui.components.header import TABS
from danqing.ui.components.prompt import TRANSLATE
from danqing.ui.fields import ASPECTS, NAMES
from danqing.ui.page import SCRIPTS as SCRIPTS_OF_PAGE
from danqing.ui.page import SENT, SPOKEN, tips
from danqing.ui.units import FITS, MODES, PASSES
from danqing.ui.words import WORDS, label, language_of, say, sentence, tables
from danqing.ui.words_help import HELP
from danqing.ui.words_options import GROUPS, OPTIONS
from tests.ui.conftest import Desk

UI = Path(danqing.ui.__file__).parent
SAME_IN_BOTH = {"eta", "vae"}
BUILT = (
    "system_",
    "chore_",
    "plugin_",
    "restart_",
    "joint_",
    "control_",
    "people_",
    "interrogate_",
    "train_",
    "title_",
    "arg_",
    "choice_",
    "axis_",
    "kind_",
    "translate_",
    "resize_",
    "fill_",
    "soft_",
    "send_",
    "guide_",
)
"""Words whose keys are put together."""


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", sorted(WORDS))
def test_every_word_is_there_in_both_languages(key: str) -> None:
    english, chinese = WORDS[key]
    assert all(text.strip() for text in (english, chinese))
    assert fields(english) - fields(chinese) <= {"count"}, "a number may be left out, not added"
    assert fields(chinese) <= fields(english)
    assert not re.search(r"[\u4e00-\u9fff]", english)
    assert key in SAME_IN_BOTH or re.search(r"[\u4e00-\u9fff]", chinese)


def test_browser_gets_every_word_for_every_chinese() -> None:
    table = tables().translations
    assert table["zh-CN"] == table["zh-TW"]
    assert table["en"].keys() == table["zh-CN"].keys() == WORDS.keys()


def test_unknown_label_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        label("no such word")


def literals(desk: Desk) -> list[tuple[str, str, str]]:
    """Texts of components that are shown and do not come from the table."""
    found = []
    for block in desk.demo.config["components"] if desk.demo.config else desk.demo.get_config_file()["components"]:
        for prop in ("label", "info", "placeholder", "value"):
            value = block["props"].get(prop)
            if isinstance(value, str) and value.strip() and "__i18n__" not in value:
                found.append((block["type"], prop, value))
    return found


def test_no_label_of_the_page_is_outside_the_table(desk: Desk) -> None:
    allowed = {*ASPECTS, TYPES[0], "-1", "DPM++ 2M", "Automatic", "Latent", "Lanczos", "None", "none"}
    allowed |= {*TABS, *TRANSLATE, *(str(arg.default) for row in SCRIPTS for arg in row.args)}
    allowed |= {*MODES.values(), *FITS.values(), *PASSES.values()}
    shown = [row for row in literals(desk) if row[0] not in ("html", "state", "browserstate")]
    stray = [row for row in shown if row[2] not in allowed and not row[2].startswith("Textbox")]
    assert stray == []


def test_html_of_the_page_says_everything_twice(desk: Desk) -> None:
    for kind, _, text in literals(desk):
        if kind == "html":
            bare = re.sub(r"<span class=\"dq-(en|zh)\".*?</span>|<[^>]+>", " ", text)
            assert set(re.findall(r"[A-Za-z]{3,}|[\u4e00-\u9fff]+", bare)) <= {"Danqing", "丹青"}


def test_every_word_is_used() -> None:
    files = [p for p in UI.rglob("*") if p.suffix in (".py", ".js") and not p.name.startswith("words")]
    sources = [p.read_text("utf-8") for p in files]
    text = "\n".join(sources)
    unused = {key for key in WORDS if f'"{key}"' not in text and f"'{key}'" not in text}
    built = {key for key in unused if key.startswith(BUILT)}
    assert unused - built <= set(GenerateRequest.model_fields), "names of request fields are used in errors"


def test_every_script_axis_and_option_has_a_word() -> None:
    wanted = {f"title_{row.name}" for row in SCRIPTS} | {f"axis_{axis.label}" for axis in AXES}
    args = [arg for row in SCRIPTS for arg in scripts.shown(row)]
    wanted |= {f"arg_{arg.name}" for arg in args} | {f"choice_{one}" for arg in args for one in arg.choices or ()}
    assert wanted <= WORDS.keys()
    assert {key for keys in GROUPS.values() for key in keys} == OPTIONS.keys()
    for english, chinese in (*OPTIONS.values(), *GROUPS):
        assert not re.search(r"[\u4e00-\u9fff]", english)
        assert re.search(r"[\u4e00-\u9fff]", chinese)


def test_script_asks_for_words_that_it_is_given() -> None:
    script = "\n".join((UI / "static" / f"{name}.js").read_text("utf-8") for name in SCRIPTS_OF_PAGE)
    asked = set(re.findall(r"say\('(\w+)'\)|(?:button|arrow)\('(\w+)'", script))
    words = {a or b for a, b in asked}
    built = {word for word in SPOKEN if word.startswith(("joint_", "pose_", "sketch_"))}
    assert words - built == set(SPOKEN) - set(SENT) - built
    assert all(
        f"{part}${{" in script or f"'{part}" in script or f"`{part}" in script
        for part in ("joint_", "pose_", "sketch_")
    )
    assert "send_${tab}" in script


def test_every_control_says_what_it_does(desk: Desk) -> None:
    filled = {"model", "tab", "init", "init_sketch", "inpaint_image", "inpaint_mask", "extras_images", "first_pass"}
    chosen = {"script_txt2img", "script_img2img"}
    assert set(NAMES) - filled - chosen - set(scripts.NAMES) - set(units.NAMES) <= HELP.keys()
    assert {f"control_{part}" for part in ("on", *units.FIELDS)} - {"control_image"} <= HELP.keys()
    ids = {block["props"].get("elem_id") for block in desk.demo.get_config_file()["components"]}
    assert tips().keys() <= ids, "a tooltip for a control that is not there"
    for english, chinese in HELP.values():
        assert not re.search(r"[\u4e00-\u9fff]", english)
        assert re.search(r"[\u4e00-\u9fff]", chinese)


def test_every_box_has_a_word() -> None:
    assert set(NAMES) - set(scripts.NAMES) - set(units.NAMES) <= WORDS.keys()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh", "zh"),
        ("zh-TW", "zh"),
        ("zh-Hans-SG;q=1", "zh"),
        ("en-US,zh;q=0.9", "en"),
        ("fr,zh;q=0.9", "en"),
        ("zhx", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_language_of_a_browser(header: str | None, language: str) -> None:
    assert language_of(header) == language


def test_errors_call_boxes_by_their_labels() -> None:
    error = DanqingError("out_of_range", field="steps", value=0, minimum=1, maximum=150)
    assert sentence(error, "en") == "Steps is 0; it must lie between 1 and 150."
    assert sentence(error, "zh") == "采样步数为 0，应在 1 到 150 之间。"


def test_say_fills_fields() -> None:
    assert say("step", "zh", step=3, steps=20) == "第 3 / 20 步"


def test_label_is_translated_in_the_browser() -> None:
    data: Any = label("prompt")
    assert isinstance(data, gr.i18n.I18nData)
    assert json.loads(str(data).removeprefix("__i18n__"))["key"] == "prompt"
