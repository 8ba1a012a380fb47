"""docs/aws*.md and docs/box*.md name every command and option there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from danqing.box import cli as box
from danqing.cloud import cli as cloud

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("chinese", [False, True], ids=["en", "zh"])
@pytest.mark.parametrize(("page", "app"), [("aws", cloud.app), ("box", box.app)], ids=["cloud", "box"])
def test_every_command_and_option_is_documented(page: str, app: typer.Typer, chinese: bool) -> None:
    text = (DOCS / f"{page}{'.zh-CN' if chinese else ''}.md").read_text("utf-8")
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"danqing {group.name} {name}" in text, name
        options = {
            option for one in command.params for option in (*one.opts, *one.secondary_opts) if option.startswith("-")
        }
        assert [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)] == [], name


@pytest.mark.parametrize("chinese", [False, True], ids=["en", "zh"])
def test_every_make_target_is_documented(chinese: bool) -> None:
    text = (DOCS / f"aws{'.zh-CN' if chinese else ''}.md").read_text("utf-8")
    for target in ("ami", "launch", "status", "start", "stop", "terminate", "images", "share"):
        assert f"make {target}" in text


def test_variables_of_the_makefile_are_documented_and_used() -> None:
    makefile, text = (ROOT / "Makefile").read_text("utf-8"), (DOCS / "aws.md").read_text("utf-8")
    block = makefile.partition("# -- AWS")[2].partition("\nclean:")[0]
    used = set(re.findall(r"\$\((?:if )?([A-Z_]+)", block)) - {"CLOUD", "WHERE", "BIN"}
    shown = {name for name in used if re.search(rf"\b{name}\b", text)}
    assert {"TYPE", "CIDR", "DATA_GB", "SPOT", "REPLACE", "LAUNCH", "KEEP", "ACCOUNTS"} <= shown
