"""Upscaling over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.support import assert_four_keys, base64_of, draw, image_of
from tests.conftest import Server


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


PICTURE = base64_of(Image.linear_gradient("L").resize((64, 96)).convert("RGB"))


def single(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = client.post("/sdapi/v1/extra-single-image", json={"image": PICTURE, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert list(answer) == ["html_info", "image"]
    return answer


def test_by_a_factor(client: httpx.Client) -> None:
    answer = single(client, upscaling_resize=1.7, upscaler_1="Lanczos")
    assert image_of(answer["image"]).size == (104, 160)
    assert answer["html_info"] == "<p>Postprocess upscale by: 1.7, Postprocess upscaler: Lanczos</p>"


def test_to_a_size(client: httpx.Client) -> None:
    sized = {"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 100, "upscaler_1": "Nearest"}
    assert image_of(single(client, **sized)["image"]).size == (100, 100)
    uncut = image_of(single(client, **sized, upscaling_crop=False)["image"]).size
    assert uncut != (100, 100)


def test_none_changes_nothing(client: httpx.Client) -> None:
    answer = single(client, upscaler_1="None")
    assert answer["html_info"] == "<p></p>"
    assert image_of(answer["image"]).tobytes() == image_of(PICTURE).tobytes()


def test_two_upscalers(client: httpx.Client) -> None:
    pair = {"upscaler_1": "Nearest", "upscaler_2": "Lanczos"}
    one = single(client, **pair, extras_upscaler_2_visibility=0)["image"]
    both = single(client, **pair, extras_upscaler_2_visibility=0.5)
    assert one != both["image"]
    assert "Postprocess upscaler 2: Lanczos" in both["html_info"]


def test_the_infotext_stays(client: httpx.Client) -> None:
    drawn = draw(client)
    answer = client.post(
        "/sdapi/v1/extra-single-image", json={"image": drawn["images"][0], "upscaler_1": "Lanczos"}
    ).json()
    told = client.post("/sdapi/v1/png-info", json={"image": answer["image"]}).json()
    assert told["info"] == drawn["info"]["infotexts"][0]
    assert told["items"]["postprocessing"] == "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos"


def test_several(client: httpx.Client) -> None:
    files = [{"data": PICTURE, "name": "a.png"}, {"data": "data:image/png;base64," + PICTURE, "name": "b.png"}]
    response = client.post(
        "/sdapi/v1/extra-batch-images", json={"imageList": files, "upscaler_1": "Nearest", "upscaling_resize": 2}
    )
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["html_info", "images"]
    assert [image_of(text).size for text in response.json()["images"]] == [(128, 192)] * 2


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        ({"upscaler_1": "nope"}, "UnknownUpscaler", "Lanczos"),
        ({"image": ""}, None, "image"),
        ({"image": "aGVsbG8="}, "HTTPException", "Invalid encoded image"),
        ({"image": "https://localhost/x.png"}, "HTTPException", "Requests not allowed"),
        ({"gfpgan_visibility": 1}, "FilesMissing", "GFPGAN"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit(client: httpx.Client, sent: dict[str, Any], error: str | None, words: str) -> None:
    response = client.post("/sdapi/v1/extra-single-image", json={"image": PICTURE, "upscaler_1": "Lanczos", **sent})
    body = assert_four_keys(response, 422)
    assert error is None or body["error"] == error
    assert words in body["detail"]


@pytest.mark.parametrize(
    "sent", [{"upscaling_resize": 0}, {"upscaling_resize": 17}, {"resize_mode": 2}, {"codeformer_weight": 2}], ids=str
)
def test_out_of_bounds(client: httpx.Client, sent: dict[str, Any]) -> None:
    response = client.post("/sdapi/v1/extra-single-image", json={"image": PICTURE, **sent})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", *sent]


def test_no_pictures(client: httpx.Client) -> None:
    assert client.post("/sdapi/v1/extra-batch-images", json={}).status_code == 422
    assert_four_keys(client.post("/sdapi/v1/extra-batch-images", json={"imageList": []}), 422)
