"""The boxes, and a tab that lists the files and tries a template."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from html import escape

from danqing.errors import DanqingError
from danqing.plugins import Box, Reader, Script, Tab, hookimpl
from danqing.shipped.wildcards.grammar import LONGEST, Cards, drawn

SCRIPT = Script(
    "Wildcards",
    "Wildcards and dynamic prompts",
    "通配符与动态提示词",
    (
        Box("on", "Draw lots: {a|b}, __name__", "抽签：{甲|乙}、__名称__", True),
        Box("each", "A new draw for each picture", "每张图片重新抽签", True),
    ),
)
SAMPLES = 6


@hookimpl
def danqing_scripts() -> Sequence[Script]:
    return (SCRIPT,)


@hookimpl
def danqing_tabs() -> Sequence[Tab]:
    return (Tab("wildcards", "Wildcards", "通配符", render, act),)


def say(reader: Reader, english: str, chinese: str) -> str:
    return escape(chinese if reader.language == "zh" else english)


def render(reader: Reader, template: str = "", samples: Sequence[str] = ()) -> str:
    """The files, and a box to try a template in."""
    cards = Cards(reader.data / "wildcards")
    rows = "".join(
        f"<tr><td><code>__{escape(name)}__</code></td><td>{len(cards.read(name))}</td></tr>" for name in cards.names()
    )
    hint = say(reader, "Put files into wildcards/, one text a line.", "请把文本文件放入 wildcards/，每行一条。")
    listed = (
        f"<table><thead><tr><th>{say(reader, 'Wildcard', '通配符')}</th><th>{say(reader, 'Lines', '行数')}</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )
    tried = "".join(f"<li>{escape(one)}</li>" for one in samples)
    return (
        f"<p class='dq-note'>{hint}</p><form><label>{say(reader, 'Try a template', '试一试模板')}"
        f"<input name='template' value='{escape(template)}' placeholder='{{a|b}} __name__'></label>"
        f"<button class='dq-button'>{say(reader, 'Draw lots', '抽签')}</button></form><ol>{tried}</ol>"
        + (listed if rows else "")
    )


def act(reader: Reader, values: Mapping[str, str]) -> str:
    """The tab with a few prompts of the template."""
    template, cards = values.get("template", "")[:LONGEST], Cards(reader.data / "wildcards")
    try:
        samples = [drawn(template, random.Random(seed), cards) for seed in range(SAMPLES)]
    except DanqingError as error:
        samples = [error.text(reader.language)]
    return render(reader, template, samples)
