"""The document that the page comes in: its language and what keeps it."""

from __future__ import annotations

import asyncio
import gzip
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from danqing.errors import DanqingError, language_of_headers
from danqing.gallery.inputs import opened
from danqing.reasons import in_chinese
from danqing.request import parsed
from danqing.ui.assets import Assets
from danqing.ui.shell import Shell


async def nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("default", "accepts", "cookie", "language", "kept"),
    [
        ("auto", "zh-HK,en", "", "zh", ""),
        ("auto", "fr,zh;q=0.9", "", "en", ""),
        ("zh", "fr", "", "zh", "danqing_language=zh.box"),
        ("zh", "en-GB", "", "en", ""),
        ("zh", "en-GB", "danqing_language=zh", "zh", ""),
        ("zh", "fr", "a=b; danqing_language=en", "en", ""),
        ("en", "fr", "danqing_language=zh.box", "en", "danqing_language=en.box"),
        ("auto", "fr", "danqing_language=zh.box", "en", "danqing_language=;"),
    ],
)
def test_the_language_is_chosen_asked_for_or_the_boxs(
    default: str, accepts: str, cookie: str, language: str, kept: str
) -> None:
    found, told = Shell(nothing, "", default).language({"accept-language": accepts, "cookie": cookie})
    assert found == language
    assert told.startswith(kept) if kept else not told


def test_errors_follow_the_language_that_was_chosen_on_the_page() -> None:
    assert language_of_headers({"cookie": "danqing_language=zh", "accept-language": "en"}) == "zh"
    assert language_of_headers({"cookie": "danqing_language=en.box", "accept-language": "zh"}) == "en"
    assert language_of_headers({"cookie": "danqing_language=<script>", "accept-language": "zh"}) == "zh"
    assert language_of_headers({}) == "en"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": "wide"}, "width：应为整数。"),
        ({"width": 5.5}, "width：应为整数，不能带小数。"),
        ({"prompt": 3}, "prompt：应为文本。"),
        ({"rng": "dice"}, "rng：应为 'GPU', 'NV' 或 'CPU'。"),
        ({"subseed_strength": 7}, "subseed_strength：应不大于 1。"),
        ({"hires": {"scale": 99}}, "hires.scale：应不大于 16。"),
        ({"colour": "red"}, "colour：不是已知的字段。"),
        ({"init_images": ["x"]}, "init_images.0：格式应符合 '^(|[0-9a-f]{64})$'。"),
        ({"script": {}}, "script.name：必须提供。"),
        ({"init_images": 3}, "init_images：应为列表。"),
        ({"extras": {"crop": "maybe"}}, "extras.crop：应为 true 或 false。"),
        ({"control": [[]]}, "control.0：应为对象。"),
    ],
)
def test_what_pydantic_says_is_said_in_chinese(fields: dict[str, object], said: str) -> None:
    with pytest.raises(DanqingError) as caught:
        parsed(fields)
    assert caught.value.text("zh") == said


def test_reasons_nobody_knows_stay() -> None:
    assert in_chinese("[Errno 5] Input/output error") == "[Errno 5] Input/output error"
    assert in_chinese("Value error, one of a, b") == "可选：a, b"


def test_pictures_that_cannot_be_read_are_told_in_chinese() -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    for content, said in ((b"no picture", "任何一种格式"), (bomb.getvalue(), "超过 67108864 像素")):
        with pytest.raises(DanqingError) as caught:
            opened(content)
        assert said in caught.value.text("zh")


def answered(path: str, accepts: str = "gzip") -> list[dict[str, Any]]:
    """What the page's assets answer over a folder of two files; a path that is none of theirs reaches the page."""
    sent: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        sent.append({"page": scope["path"]})

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask(folder: Path) -> None:
        (folder / "core-Bdx9080F.js").write_text("let a = 1;" * 100)
        (folder / "secret.txt").write_text("nobody's")
        headers = [(b"accept-encoding", accepts.encode())]
        await Assets(page, folder)({"type": "http", "method": "GET", "path": path, "headers": headers}, None, send)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(ask(Path(folder)))
    return sent


def test_scripts_are_kept_by_browsers_for_ever() -> None:
    start, body = answered("/assets/core-Bdx9080F.js")
    headers = dict(start["headers"])
    assert b"immutable" in headers[b"cache-control"]
    assert headers[b"content-encoding"] == b"gzip"
    assert gzip.decompress(body["body"]) == b"let a = 1;" * 100
    start, body = answered("/assets/core-Bdx9080F.js", "identity")
    assert body["body"] == b"let a = 1;" * 100
    assert b"content-encoding" not in dict(start["headers"])


@pytest.mark.parametrize("path", ["/assets/secret.txt", "/assets/../core-Bdx9080F.js", "/assets/", "/"])
def test_what_is_no_script_is_the_pages(path: str) -> None:
    assert answered(path) == [{"page": path}]
