"""Pictures that people hand in: infotext from every place it may stand in, and nothing from hostile bytes."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from danqing.errors import DanqingError
from danqing.gallery import png
from danqing.gallery.infotext import maker_of, read_image
from danqing.gallery.reading import encode_user_comment

TEXT = "一只猫, é 😀\nNegative prompt: bad\nSteps: 1, Sampler: Euler, Seed: 2"


def saved(kind: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 10, 10)).save(buffer, kind, **options)
    return buffer.getvalue()


def with_exif(kind: str, comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    return saved(kind, exif=exif)


@pytest.mark.parametrize("text", [TEXT, "plain latin é"])
def test_png_chunk(text: str) -> None:
    assert read_image(png.encode(bytes(192), 8, 8, {"parameters": text, "other": "x"})) == (text, {"other": "x"})


def test_png_chunks_are_those_of_the_webui() -> None:
    """tEXt where the text is Latin-1, else iTXt."""
    assert b"tEXtparameters\x00cat" in png.encode(bytes(3), 1, 1, {"parameters": "cat"})
    data = png.encode(bytes(3), 1, 1, {"parameters": "猫"})
    assert b"iTXtparameters\x00" in data
    assert b"tIME" not in data


def test_png_chunk_behind_the_pixels() -> None:
    info = PngInfo()
    info.add_text("parameters", TEXT, zip=True)
    info.add_itxt("late", "x")
    data = saved("PNG", pnginfo=info)
    body = b"tEXtparameters\x00late"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    plain = saved("PNG")
    end = plain.rindex(b"IEND") - 4
    assert read_image(plain[:end] + chunk + plain[end:])[0] == "late"
    assert read_image(data)[0] == TEXT


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "comment",
    [
        encode_user_comment(TEXT),
        b"UNICODE\x00" + TEXT.encode("utf-16-le"),
        b"UNICODE\x00" + TEXT.encode("utf-16"),
        b"\x00" * 8 + TEXT.encode(),
    ],
)
def test_exif_user_comment(kind: str, comment: bytes) -> None:
    assert read_image(with_exif(kind, comment)) == (TEXT, {})


@pytest.mark.parametrize(
    ("texts", "program"),
    [
        ({"prompt": '{"3": {"class_type": "KSampler"}}', "workflow": '{"nodes": []}'}, "ComfyUI"),
        ({"invokeai_metadata": '{"positive_prompt": "a cat"}'}, "InvokeAI"),
        ({"Dream": '"a cat" -s 50 -S 1'}, "InvokeAI"),
        ({"Software": "NovelAI", "Comment": "no json"}, "NovelAI"),
        ({"Software": "Photoshop", "prompt": "words"}, ""),
    ],
)
def test_pictures_of_other_programs(texts: dict[str, str], program: str) -> None:
    text, items = read_image(png.encode(bytes(192), 8, 8, texts))
    assert (text, maker_of(items)) == ("", program)


def test_exif_ascii_and_gif_comment() -> None:
    assert read_image(with_exif("JPEG", b"ASCII\x00\x00\x00a cat"))[0] == "a cat"
    assert read_image(saved("GIF", comment=b"a cat"))[0] == "a cat"


def test_exif_wins_over_the_chunk() -> None:
    exif, info = Image.Exif(), PngInfo()
    exif[0x0131] = "a program"
    exif.get_ifd(0x8769)[0x9286] = encode_user_comment("from exif")
    info.add_text("parameters", "from chunk")
    assert read_image(saved("PNG", exif=exif, pnginfo=info))[0] == "from exif"


def test_novelai() -> None:
    info = PngInfo()
    told = {"sampler": "k_euler_ancestral", "uc": "bad", "steps": 28, "scale": 11.0, "seed": 5}
    for key, value in (("Software", "NovelAI"), ("Description", "a cat"), ("Comment", json.dumps(told))):
        info.add_text(key, value)
    text, items = read_image(saved("PNG", pnginfo=info))
    assert text.startswith(
        "a cat\nNegative prompt: bad\nSteps: 28, Sampler: Euler a, CFG scale: 11.0, Seed: 5, Size: 8x8"
    )
    assert items["Software"] == "NovelAI"


def test_nothing_inside() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        assert read_image(saved(kind)) == ("", {})
    assert read_image(saved("GIF"))[0] == ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"no picture",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        saved("PNG", (64, 64))[:-40],
        saved("JPEG", (64, 64))[:300],
        saved("TIFF"),
    ],
    ids=["empty", "start", "text", "postscript", "cut png", "cut jpeg", "tiff"],
)
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with pytest.raises(DanqingError) as caught:
        read_image(data)
    assert caught.value.code == "broken_image"


def test_one_pixel_too_many_is_refused() -> None:
    assert read_image(saved("PNG", (100, 10)), limit_pixels=1000) == ("", {})
    with pytest.raises(DanqingError, match="101x10 is more than 1000 pixels"):
        read_image(saved("PNG", (101, 10)), limit_pixels=1000)


def test_bombs_are_refused_unopened() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    small = saved("PNG")
    body = b"IHDR" + header
    bomb = small[:8] + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + small[33:]
    with pytest.raises(DanqingError) as caught:
        read_image(bomb)
    assert caught.value.code == "broken_image"
    info = PngInfo()
    info.add_text("parameters", "a" * 50_000_000, zip=True)
    with pytest.raises(DanqingError) as caught:
        read_image(saved("PNG", pnginfo=info))
    assert caught.value.code == "broken_image"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"]), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_give_a_text_or_an_error(kind: str, place: int, damage: bytes) -> None:
    data = bytearray(saved(kind))
    data[place : place + len(damage)] = damage
    try:
        text, items = read_image(bytes(data))
    except DanqingError:
        return
    assert isinstance(text, str)
    assert all(isinstance(value, str) for value in items.values())
