"""The styles file and what styles do to prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.prompt.styles import Style, apply_styles, extract_styles, read_file, read_styles, save_styles, styled

RECORDED = [
    Style("mystyle", "masterpiece, {prompt}, best", "ugly"),
    Style("append", "highly detailed", "blurry, lowres"),
]


def test_styles_go_on_as_the_webui_puts_them() -> None:
    found = styled("a photo of a cat, trees", "blurry, lowres", ["mystyle", "zzz", "append"], RECORDED, 20000)
    assert found == (
        "masterpiece, a photo of a cat, trees, best, highly detailed",
        "blurry, lowres, ugly, blurry, lowres",
    )


def test_styles_are_found_again_and_taken_off() -> None:
    prompt, negative = styled("a cat", "bad", ["mystyle", "append"], RECORDED, 20000)
    assert extract_styles(prompt, negative, RECORDED) == (["mystyle", "append"], "a cat", "bad")
    assert extract_styles("a cat, highly detailed", "bad", RECORDED) == ([], "a cat, highly detailed", "bad")


def test_blanks_and_empty_texts() -> None:
    assert apply_styles("  a cat ", ["", " b "], 100) == "a cat, b"
    assert apply_styles("", ["b"], 100) == "b"
    assert apply_styles("x {prompt}", ["({prompt})"], 100) == "(x {prompt})"


def test_styles_that_multiply_the_prompt_end_with_an_error() -> None:
    with pytest.raises(DanqingError) as caught:
        apply_styles("{prompt}{prompt}", ["{prompt}{prompt}"] * 60, 20000)
    assert caught.value.code == "text_too_long"


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "styles.csv"
    file.write_text('name,text\n"a, b","x ""y"""\n#off,z\n,lost\nonly\n', "utf-8-sig")
    assert read_styles(tmp_path) == [Style("a, b", 'x "y"'), Style("only")]
    file.write_bytes("name,prompt,negative_prompt\n水墨,水墨画,\n".encode("gb18030"))
    assert read_styles(tmp_path) == [Style("水墨", "水墨画")]
    file.write_bytes(b"\xff\xfe\x00\xd8")
    assert read_styles(tmp_path) == []
    assert read_styles(tmp_path / "none") == []


def test_several_files_have_dividers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"styles_{name}.csv").write_text(f"name,prompt,negative_prompt\n{name},{name}!,\n")
    found = read_styles(tmp_path, ["styles_*.csv"])
    assert [(style.name.strip("- "), style.divider) for style in found] == [
        ("STYLES_ONE", True),
        ("one", False),
        ("STYLES_TWO", True),
        ("two", False),
    ]
    assert styled("x", "", [style.name for style in found], found, 100) == ("x, one!, two!", "")


def test_saving_keeps_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "styles.csv"
    save_styles(file, RECORDED)
    before = file.read_bytes()
    assert before.startswith(b"\xef\xbb\xbfname,prompt,negative_prompt")
    assert read_file(file) == RECORDED
    file.write_bytes(before + b"# note,kept,\n")
    save_styles(file, [Style("-- divider --", divider=True), Style("new", "多\n行", 'with "quotes"')])
    assert read_file(file) == [Style("new", "多\n行", 'with "quotes"')]
    assert "# note,kept" in file.read_text("utf-8-sig")
    assert (tmp_path / "styles.csv.bak").read_bytes() == before + b"# note,kept,\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["styles.csv", "styles.csv.bak"]
