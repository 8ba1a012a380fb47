"""The openai package draws pictures here."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from danqing.api.tokens import Tokens
from tests.conftest import Server


def client_of(server: Server, key: str = "none") -> openai.OpenAI:
    plain = httpx.Client(trust_env=False, timeout=60)
    return openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=key, max_retries=0, http_client=plain)


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


def png(picture: Image.Image) -> tuple[str, bytes, str]:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return "picture.png", out.getvalue(), "image/png"


def opened(text: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text or "")))


FEW = {"steps": 3, "seed": 7}


def test_generate(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt="a red circle",
        n=2,
        size="64x64",
        response_format="b64_json",
        extra_body=FEW,  # type: ignore[call-overload]
    )
    assert answer.created > 0
    assert [opened(one.b64_json).size for one in answer.data] == [(64, 64)] * 2
    again = client.images.generate(
        model="gpt-image-1",
        prompt="a red circle",
        n=2,
        size="64x64",
        extra_body=FEW,  # type: ignore[call-overload]
    )
    for one, other in zip(again.data, answer.data, strict=True):
        # The last bit of a picture depends on how many rows its steps had.
        pixels = [np.asarray(opened(picture.b64_json), np.int16) for picture in (one, other)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_addresses_of_pictures(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="dall-e-3",
        prompt="a red circle",
        size="64x72",
        extra_body=FEW,  # type: ignore[call-overload]
    )
    with httpx.Client(trust_env=False) as plain:
        assert Image.open(io.BytesIO(plain.get(answer.data[0].url).content)).size == (64, 72)


def test_the_size_is_the_models_own(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a red circle", response_format="b64_json", extra_body=FEW)
    assert opened(answer.data[0].b64_json).width >= 64  # type: ignore[index]


def test_who_does_not_say_gets_address_and_content(client: openai.OpenAI) -> None:
    (one,) = client.images.generate(prompt="a red circle", size="64x64", extra_body=FEW).data or ()  # type: ignore[call-overload]
    assert one.url.startswith("http://127.0.0.1")
    assert opened(one.b64_json).size == (64, 64)


def test_formats(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="gpt-image-1",
        prompt="a red circle",
        size="64x64",
        output_format="webp",
        output_compression=50,
        background="opaque",
        extra_body=FEW,  # type: ignore[call-overload]
    )
    assert opened(answer.data[0].b64_json).format == "WEBP"
    assert answer.data[0].url is None


def test_a_stream_ends_with_every_picture(client: openai.OpenAI) -> None:
    asked = {"prompt": "a red circle", "n": 2, "size": "64x64", "extra_body": FEW}
    events = list(client.images.generate(**asked, model="gpt-image-1", stream=True, partial_images=2))  # type: ignore[call-overload]
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    whole = client.images.generate(**asked, response_format="b64_json")  # type: ignore[call-overload]
    assert [event.b64_json for event in events] == [one.b64_json for one in whole.data]
    assert events[0].usage.total_tokens == 0


def test_edit_paints_what_is_transparent(client: openai.OpenAI) -> None:
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 24, 64))
    answer = client.images.edit(
        image=png(Image.new("RGB", (64, 64), "navy")),
        mask=png(mask),
        prompt="a red circle",
        response_format="b64_json",
        extra_body={"steps": "3", "seed": "7"},
    )
    drawn = opened(answer.data[0].b64_json).convert("RGB")  # type: ignore[index]
    assert drawn.size == (64, 64)
    assert drawn.getpixel((60, 32)) == (0, 0, 128)
    assert drawn.getpixel((4, 32)) != (0, 0, 128)


def test_variation(client: openai.OpenAI) -> None:
    picture = png(Image.new("RGB", (72, 64), "navy"))
    answer = client.images.create_variation(image=picture, n=1, response_format="b64_json", extra_body={"steps": "3"})
    assert opened(answer.data[0].b64_json).size == (72, 64)  # type: ignore[index]


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id.startswith("danqing-mini.safetensors [")
    assert 0 < model.created <= time.time()
    assert client.models.retrieve(model.id) == client.models.retrieve("danqing-mini") == model
    with pytest.raises(openai.NotFoundError, match="nope") as refused:
        client.models.retrieve("folder/nope")
    assert refused.value.code == "unknown_model"


def test_errors_are_the_packages_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nope"):
        client.images.generate(prompt="x", model="nope")
    with pytest.raises(openai.UnprocessableEntityError, match="8388608"):
        client.images.generate(prompt="x", size="4096x4096")  # type: ignore[call-overload]
    two = [png(Image.new("RGB", (64, 64), colour)) for colour in ("navy", "teal")]
    with pytest.raises(openai.UnprocessableEntityError, match="one picture"):
        client.images.edit(image=two, prompt="x", extra_body={"steps": "1"})
    with pytest.raises(openai.BadRequestError, match="n") as wrong:
        client.images.generate(prompt="x", n=0)
    assert (wrong.value.param, wrong.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.UnprocessableEntityError, match="transparent"):
        client.images.generate(prompt="x", background="transparent")
    with pytest.raises(openai.UnprocessableEntityError, match="quality"):
        client.images.generate(prompt="x", quality="finest")  # type: ignore[call-overload]
    with pytest.raises(openai.UnprocessableEntityError, match="picture"):
        client.images.create_variation(image=("a.png", b"no picture", "image/png"))


def test_the_key_is_a_token(login_server: Server) -> None:
    text, row = Tokens(login_server.data).new("openai", ["draw"])
    with client_of(login_server, text) as known:
        answer = known.images.generate(
            prompt="a red circle",
            size="64x64",
            response_format="b64_json",
            extra_body=FEW,  # type: ignore[call-overload]
        )
        assert opened(answer.data[0].b64_json).size == (64, 64)
        Tokens(login_server.data).revoke(row.id)
        with pytest.raises(openai.AuthenticationError) as refused:
            known.models.list()
    assert (refused.value.code, refused.value.type) == ("wrong_token", "invalid_request_error")
    with client_of(login_server) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.images.generate(prompt="x")
