"""From a picture over HTTP: image to image, inpainting, what is echoed, what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.support import SMALL, assert_four_keys, base64_of, image_of
from tests.conftest import Server


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


def red(width: int = 64, height: int = 64) -> str:
    return base64_of(Image.new("RGB", (width, height), (200, 30, 30)))


def mask(width: int = 64, height: int = 64) -> str:
    """White in the left half: that is painted anew."""
    found = Image.new("L", (width, height), 0)
    found.paste(255, (0, 0, width // 2, height))
    return base64_of(found)


def paint(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = client.post("/sdapi/v1/img2img", json={**SMALL, "steps": 4, "init_images": [red()], **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return {**answer, "info": json.loads(answer["info"])}


def mean_change(one: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> float:
    pairs = zip(one.convert("RGB").crop(box).tobytes(), other.convert("RGB").crop(box).tobytes(), strict=True)
    changes = [abs(a - b) for a, b in pairs]
    return sum(changes) / len(changes)


def test_answer(client: httpx.Client) -> None:
    answer = paint(client)
    assert image_of(answer["images"][0]).size == (64, 64)
    assert answer["info"]["denoising_strength"] == 0.75
    assert "Denoising strength: 0.75" in answer["info"]["infotexts"][0]
    assert answer["parameters"]["init_images"] is None
    assert answer["parameters"]["mask"] is None
    assert "include_init_images" not in answer["parameters"]
    assert answer["parameters"]["inpaint_full_res"] is True


def test_pictures_come_back_where_asked_for(client: httpx.Client) -> None:
    sent = red()
    answer = paint(client, init_images=[sent], include_init_images=True)
    assert answer["parameters"]["init_images"] == [sent]


@pytest.mark.parametrize(
    "form",
    [
        "data:image/png;base64,{}",
        "data:image/jpeg;base64,{}",
        " DATA:application/octet-stream;charset=utf-8;base64,{}\n",
        "{}",
    ],
)
def test_forms_of_base64(client: httpx.Client, form: str) -> None:
    assert paint(client, init_images=[form.format(red())])["images"] == paint(client)["images"]


def test_base64_of_addresses_and_without_padding(client: httpx.Client) -> None:
    text = base64_of(Image.effect_noise((64, 64), 90))
    short = text.rstrip("=").translate(str.maketrans("+/", "-_"))
    assert set("-_") & set(short)
    assert paint(client, init_images=[short])["images"] == paint(client, init_images=[text])["images"]


@pytest.mark.parametrize("resize_mode", [0, 1, 2, 3])
def test_every_way_to_fit(client: httpx.Client, resize_mode: int) -> None:
    answer = paint(client, init_images=[red(48, 80)], resize_mode=resize_mode, width=72, height=64)
    assert image_of(answer["images"][0]).size == (72, 64)


def test_strength_decides_how_much_stays(client: httpx.Client) -> None:
    source, whole = image_of(red()), (0, 0, 64, 64)
    little, much = (
        mean_change(source, image_of(paint(client, denoising_strength=value)["images"][0]), whole)
        for value in (0.05, 0.95)
    )
    assert little < much


def test_inpainting_leaves_the_rest(client: httpx.Client) -> None:
    answer = paint(client, mask=mask(), inpaint_full_res=False, inpainting_fill=1, mask_blur=0, denoising_strength=0.9)
    source, drawn = image_of(red()), image_of(answer["images"][0])
    assert mean_change(source, drawn, (40, 0, 64, 64)) <= 1
    assert mean_change(source, drawn, (0, 0, 24, 64)) > 3
    inverted = paint(
        client, mask=mask(), inpaint_full_res=False, mask_blur=0, inpainting_mask_invert=1, inpainting_fill=1
    )
    assert mean_change(source, image_of(inverted["images"][0]), (0, 0, 24, 64)) <= 1
    assert "Mask mode: Inpaint not masked" in inverted["info"]["infotexts"][0]


@pytest.mark.parametrize("fill", [0, 1, 2, 3])
def test_only_masked_keeps_the_pictures_size(client: httpx.Client, fill: int) -> None:
    answer = paint(client, init_images=[red(96, 80)], mask=mask(96, 80), inpainting_fill=fill)
    assert image_of(answer["images"][0]).size == (96, 80)
    assert "Inpaint area: Only masked" in answer["info"]["infotexts"][0]


def test_soft_inpainting(client: httpx.Client) -> None:
    soft = {"soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}
    answer = paint(client, mask=mask(), inpaint_full_res=False, inpainting_fill=1, alwayson_scripts=soft)
    assert "Soft inpainting enabled: True" in answer["info"]["infotexts"][0]


def test_masks_come_back_where_the_options_say_so(client: httpx.Client) -> None:
    answer = paint(
        client,
        mask=mask(),
        inpaint_full_res=False,
        override_settings={"return_mask": True, "img2img_color_correction": True},
    )
    assert len(answer["images"]) == 2
    assert len(answer["info"]["infotexts"]) == 1


def test_several_pictures_make_a_batch(client: httpx.Client) -> None:
    answer = paint(client, init_images=[red(), red()], batch_size=2)
    assert len(answer["images"]) == 2


def test_noise_multiplier_is_told(client: httpx.Client) -> None:
    assert "Noise multiplier: 0.9" in paint(client, initial_noise_multiplier=0.9)["info"]["infotexts"][0]


@pytest.mark.parametrize("images", [None, []])
def test_without_a_picture(client: httpx.Client, images: list[str] | None) -> None:
    body = assert_four_keys(client.post("/sdapi/v1/img2img", json={**SMALL, "init_images": images}), 404)
    assert body["detail"] == "Init image not found"


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ({"init_images": ["no base64!"]}, "Invalid encoded image"),
        ({"init_images": ["aGVsbG8="]}, "Invalid encoded image"),
        ({"init_images": ["http://169.254.169.254/latest"]}, "Requests not allowed"),
        ({"init_images": [red()], "mask": "aGVsbG8="}, "Invalid encoded image"),
        ({"init_images": [5]}, "init_images: base64 texts."),
        ({"init_images": [red()] * 3, "batch_size": 2}, "init_images: more than batch_size (2)."),
        ({"init_images": [red()] * 2}, "init_images: more than batch_size (1)."),
        ({"init_images": [red()], "denoising_strength": 1.5}, "denoising_strength"),
        ({"init_images": [red()], "resize_mode": 9}, "resize_mode"),
        ({"init_images": [red(7, 64)], "resize_mode": 3}, "init_images (px) is 7"),
        ({"init_images": [red()], "mask": red(), "inpainting_fill": 9}, "fill"),
        ({"init_images": [red()], "mask": red(), "mask_blur": -1}, "blur"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit(client: httpx.Client, sent: dict[str, Any], detail: str) -> None:
    body = assert_four_keys(client.post("/sdapi/v1/img2img", json={**SMALL, **sent}), 422)
    assert detail in body["detail"]


def test_wrong_types_get_the_usual_list(client: httpx.Client) -> None:
    response = client.post("/sdapi/v1/img2img", json={**SMALL, "init_images": "x", "mask": 5})
    assert response.status_code == 422
    assert {row["loc"][-1] for row in response.json()["detail"]} == {"init_images", "mask"}
