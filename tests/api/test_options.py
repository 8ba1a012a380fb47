"""Options: the whole table, checked values, each client its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from danqing.api.errors import ApiError
from danqing.api.options import Options, load_table
from danqing.errors import DanqingError
from tests.api.support import assert_four_keys, draw
from tests.conftest import Server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client(cookies={"danqing_client": "test_options"}) as client:
        yield client


def test_every_option_is_listed(client: httpx.Client) -> None:
    values = client.get("/sdapi/v1/options").json()
    assert list(values) == [key for key, row in load_table().items() if not row.own]
    assert len(values) > 320
    assert values["samples_format"] == "png"
    assert values["keyedit_delimiters_whitespace"] == ["Tab", "Carriage Return", "Line Feed"]


def test_whole_numbers_come_as_floats(client: httpx.Client) -> None:
    text = client.get("/sdapi/v1/options").text
    assert '"jpeg_quality":80.0' in text
    assert '"samples_save":true' in text


def test_the_model_is_told_by_its_title(client: httpx.Client) -> None:
    (model,) = client.get("/sdapi/v1/sd-models").json()
    assert client.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == model["title"]


@pytest.mark.parametrize(
    "values",
    [
        {"jpeg_quality": 90},
        {"jpeg_quality": 90.0},
        {"grid_format": "webp", "samples_save": False},
        {"live_previews_image_format": "jpeg"},
        {"quicksettings_list": ["sd_vae"]},
        {"sd_model_checkpoint": None},
    ],
    ids=str,
)
def test_setting(client: httpx.Client, values: dict[str, Any]) -> None:
    answer = client.post("/sdapi/v1/options", json=values)
    assert (answer.status_code, answer.json()) == (200, None)
    told = client.get("/sdapi/v1/options").json()
    assert all(told[key] == value for key, value in values.items() if value is not None)


@pytest.mark.parametrize(
    ("values", "error", "errors"),
    [
        ({"no_such_option": 1}, "KeyError", "'no_such_option'"),
        ({"sd_model_checkpoint": "nope"}, "RuntimeError", "model 'nope' not found"),
        ({"jpeg_quality": 0}, "OutOfRange", None),
        ({"jpeg_quality": 10**30}, "InvalidField", None),
        ({"jpeg_quality": True}, "InvalidField", None),
        ({"jpeg_quality": "80"}, "InvalidField", None),
        ({"samples_save": 1}, "InvalidField", None),
        ({"live_previews_image_format": "gif"}, "InvalidField", None),
        ({"quicksettings_list": [1]}, "InvalidField", None),
        ({"font": "x" * 10_000}, "TextTooLong", None),
        ({"emphasis": "Loud"}, "InvalidField", None),
        ({"samples_format": "png", "uni_pc_order": 0}, "OutOfRange", None),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(
    client: httpx.Client, values: dict[str, Any], error: str, errors: str | None
) -> None:
    before = client.get("/sdapi/v1/options").json()
    answer = client.post("/sdapi/v1/options", json=values)
    body = assert_four_keys(answer, answer.status_code)
    assert 400 <= answer.status_code < 500
    assert body["error"] == error
    assert errors is None or body["errors"] == errors
    assert client.get("/sdapi/v1/options").json() == before


def test_options_of_our_own_are_listed_where_they_are_set(server: Server) -> None:
    with server.client(cookies={"danqing_client": "tiles"}) as mine, server.client() as other:
        assert mine.post("/sdapi/v1/options", json={"diffusion_tile": 512, "vae_tile": 0}).status_code == 200
        values = mine.get("/sdapi/v1/options").json()
        assert values["diffusion_tile"] == 512
        assert "vae_tile" not in values
        assert "diffusion_tile" not in other.get("/sdapi/v1/options").json()
        assert mine.post("/sdapi/v1/options", json={"diffusion_tile": 5000}).status_code == 422


def test_restricted_ones_are_skipped_silently(client: httpx.Client) -> None:
    assert client.post("/sdapi/v1/options", json={"api_useragent": "x"}).status_code == 200
    assert client.get("/sdapi/v1/options").json()["api_useragent"] == ""


def test_each_client_has_its_own(server: Server) -> None:
    with (
        server.client(cookies={"danqing_client": "one"}) as one,
        server.client(cookies={"danqing_client": "two"}) as two,
    ):
        one.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2, "eta_ancestral": 0.5})
        assert two.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1
        assert "Clip skip: 2" in draw(one)["info"]["infotexts"][0]
        assert "Eta: 0.5" in draw(one, sampler_name="Euler a")["info"]["infotexts"][0]
        assert "Clip skip" not in draw(two)["info"]["infotexts"][0]


def test_kept_over_a_restart_and_bounded(tmp_path: Path) -> None:
    options = Options(tmp_path)
    options.set("a", options.checked({"jpeg_quality": 55}))
    assert Options(tmp_path).of("a")["jpeg_quality"] == 55
    assert Options(tmp_path).of("b")["jpeg_quality"] == 80
    (tmp_path / "options.json").write_text('{"a": {"gone": 1, "jpeg_quality": 1000}}')
    assert Options(tmp_path).of("a")["jpeg_quality"] == 80
    (tmp_path / "options.json").write_text("{broken")
    assert Options(tmp_path).of("a")["jpeg_quality"] == 80
    with pytest.raises(ApiError):
        options.checked({"nope": 1})
    with pytest.raises(DanqingError):
        options.checked({"jpeg_quality": 101})
