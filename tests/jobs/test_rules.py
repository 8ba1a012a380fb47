"""The block list: whole words of letters in any dress, ideographs anywhere, and what is not looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.jobs.rules import FILE, BlockList
from danqing.request import GenerateRequest, Hires, Script

LISTED = "Nude, blood bath, 血腥、裸体"


def found(text: str, tmp_path: Path, **more: object) -> str:
    """The entry that is found, "" for none."""
    try:
        BlockList(LISTED, tmp_path).check(GenerateRequest(prompt=text).model_copy(update=more))
    except DanqingError as error:
        return str(error.params["word"]) if error.code == "prompt_blocked" else error.code
    return ""


@pytest.mark.parametrize(
    "text",
    [
        "a NUDE figure",
        "nude",
        "a (nude:1.3) figure",
        "(n)ude figure",
        "nu\u200bde",
        "\uff4e\uff55\uff44\uff45",
        "tag_nude_tag",
        "blood bath",
        "blood_bath",
        "blood  \n bath",
        "画nude像",
        "很血腥的场面",
        "裸 体",
        "裸-体",
        "(裸:1.2)体",
    ],
)
def test_what_is_listed_is_found(text: str, tmp_path: Path) -> None:
    assert found(text, tmp_path)


@pytest.mark.parametrize("text", ["denuded hills", "nudes", "bloodbath", "blood, bath tub", "血红的腥味", "", "a cat"])
def test_other_words_are_not(text: str, tmp_path: Path) -> None:
    assert found(text, tmp_path) == ""


def test_every_prompt_of_a_request_is_read_but_negative_ones(tmp_path: Path) -> None:
    assert found("a cat", tmp_path, negative_prompt="nude") == ""
    assert found("a cat", tmp_path, hires=Hires(negative_prompt="nude")) == ""
    assert found("a cat", tmp_path, hires=Hires(prompt="nude")) == "nude"
    assert found("a cat", tmp_path, script=Script(name="x/y/z plot", args={"x_values": "cat, nude"})) == "nude"
    assert found("a cat", tmp_path, plugins={"wild": {"text": "血腥"}}) == "血腥"


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    rules, request = BlockList("", tmp_path), GenerateRequest(prompt="a red cat")
    rules.check(request)
    (tmp_path / FILE).write_text("dog\nred cat  # a remark\n", "utf-8")
    with pytest.raises(DanqingError, match="red cat"):
        rules.check(request)
    (tmp_path / FILE).unlink()
    rules.check(request)
