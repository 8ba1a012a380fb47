"""png-info: what is inside a picture, and hostile pictures."""

from __future__ import annotations

import base64
import io
import zlib

import httpx
import pytest
from PIL import Image, PngImagePlugin

from tests.api.support import assert_four_keys
from tests.conftest import Server

TEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler, CFG scale: 7.0, Seed: 5, Size: 64x96, Version: v1.10.1"


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


def png(**texts: str) -> str:
    chunk = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunk.add_text(key, text)
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=chunk, dpi=(72, 72))
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_infotext_is_taken_apart(client: httpx.Client, prefix: str) -> None:
    told = client.post("/sdapi/v1/png-info", json={"image": prefix + png(parameters=TEXT, Title="x")}).json()
    assert list(told) == ["info", "items", "parameters"]
    assert told["info"] == TEXT
    assert told["items"] == {"Title": "x"}
    parameters = told["parameters"]
    assert (parameters["Prompt"], parameters["Negative prompt"]) == ("a cat", "dog")
    assert (parameters["Size-1"], parameters["Size-2"], parameters["Seed"]) == ("64", "96", "5")
    assert parameters["RNG"] == "GPU"
    assert parameters["Hires resize-1"] == 0


def test_no_infotext(client: httpx.Client) -> None:
    told = client.post("/sdapi/v1/png-info", json={"image": png()}).json()
    assert (told["info"], told["items"]) == ("", {})


def bomb() -> str:
    """A PNG that says 50000 x 50000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (50000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("", "Invalid encoded image"),
        ("not base64!", "Invalid encoded image"),
        (base64.b64encode(b"no picture").decode(), "Invalid encoded image"),
        (base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(), "Invalid encoded image"),
        ("http://127.0.0.1:1/a.png", "Requests not allowed"),
        ("https://example.org/a.png", "Requests not allowed"),
        (bomb(), "pixels"),
        ("中文", "Invalid encoded image"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_picture(client: httpx.Client, image: str, words: str) -> None:
    assert words in assert_four_keys(client.post("/sdapi/v1/png-info", json={"image": image}), 422)["detail"]


def test_missing_field(client: httpx.Client) -> None:
    answer = client.post("/sdapi/v1/png-info", json={})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "image"])
