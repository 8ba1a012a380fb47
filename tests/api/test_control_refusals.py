"""A request whose control cannot be had is refused by name, before and instead of drawing without it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from danqing.database import Database
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.jobs import service
from danqing.request import ControlUnit, GenerateRequest
from tests.conftest import Server

UNKNOWN = "no such net"
MIGRATIONS = Path(service.__file__).parent / "migrations"


def png() -> str:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")


@pytest.mark.parametrize(
    ("unit", "status", "code"),
    [
        ({"model": UNKNOWN, "image": png()}, 422, "unknown_control"),
        ({"module": "canny", "image": png()}, 422, "invalid_field"),
        ({"module": "zzz", "model": UNKNOWN, "image": png()}, 422, "unknown_preprocessor"),
        ({"module": "reference_only"}, 422, "control_without_picture"),
        ({"module": "reference_only", "image": "aGVsbG8="}, 422, "broken_image"),
        ({"module": "reference_only", "image": png()[:40]}, 422, "broken_image"),
        ({"module": "reference_only", "image": "0" * 64}, 422, "broken_image"),
        ({"module": "reference_only", "image": png(), "mask": "aGVsbG8="}, 422, "broken_image"),
        ({"module": "revision_clipvision", "image": png()}, 422, "preprocessor_absent"),
        ({"module": "reference_only", "image": png(), "union_control_type": "Nothing"}, 422, "invalid_field"),
        ({"module": "reference_only", "image": [{"image": png()}, {"image": png()}]}, 422, "invalid_field"),
        ({"module": "reference_only", "image": png(), "effective_region_mask": png()}, 422, "not_available"),
        ({"module": "reference_only", "image": png(), "advanced_weighting": 5}, 422, "invalid_field"),
        ({"module": "reference_only", "image": png(), "guidance_start": [1]}, 422, "invalid_field"),
        (
            {"module": "reference_only", "image": png(), "guidance_start": "0.9", "guidance_end": "0.1"},
            422,
            "invalid_field",
        ),
        ({"module": "reference_only", "image": png(), "pixel_perfect": "perhaps"}, 422, "invalid_field"),
        ({"module": "reference_only", "image": png(), "resize_mode": 9}, 422, "invalid_field"),
    ],
)
def test_refused_by_name(server: Server, unit: dict[str, Any], status: int, code: str) -> None:
    body = {
        "prompt": "a",
        "steps": 1,
        "width": 64,
        "height": 64,
        "alwayson_scripts": {"controlnet": {"args": [{"enabled": True, **unit}]}},
    }
    client: httpx.Client = server.client()
    answer = client.post("/sdapi/v1/txt2img", json=body)
    found = answer.json()
    assert answer.status_code == status, found
    assert found["error"] == "".join(word.capitalize() for word in code.split("_"))
    assert "images" not in found


def control(server: Server, *units: Any) -> httpx.Response:
    body = {"prompt": "a", "steps": 1, "seed": 1, "width": 64, "height": 64}
    with server.client() as client:
        return client.post(
            "/sdapi/v1/txt2img", json={**body, "alwayson_scripts": {"ControlNet": {"args": list(units)}}}
        )


def test_a_unit_says_the_same_in_every_spelling(server: Server) -> None:
    """Null and "" are nothing, numbers come as text, "false" is false; old names may repeat what the new ones say."""
    unit = {"enabled": True, "module": "canny", "model": "danqing-mini-canny", "image": png(), "guidance_end": 1.0}
    plain = control(server, unit).json()["images"]
    nothing = dict.fromkeys(("resize_mode", "control_mode", "hr_option", "weight", "effective_region_mask"))
    other = {
        **unit,
        **nothing,
        **{"enabled": "true", "module": "Canny", "threshold_a": "", "weight": "1", "pixel_perfect": "false"},
        **{"guidance": 1.0, "advanced_weighting": [], "model": "DANQING-mini-canny", "resize_mode": "1"},
    }
    assert control(server, None, {}, other).json()["images"] == plain
    assert len(plain) == 2
    off = {**unit, "enabled": "false", "module": "no such module"}
    assert len(control(server, off).json()["images"]) == 1


def test_options_of_control(server: Server) -> None:
    unit = {"enabled": True, "module": "canny", "model": "danqing-mini-canny", "image": png()}
    with server.client(cookies={"danqing_client": "control"}) as client:
        assert client.get("/controlnet/settings").json() == {"control_net_unit_count": 3}
        told = {"control_net_unit_count": 5, "control_net_no_detectmap": True, "control_net_allow_script_control": True}
        assert client.post("/sdapi/v1/options", json=told).status_code == 200
        assert client.get("/controlnet/settings").json() == {"control_net_unit_count": 5}
        body = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
        answer = client.post("/sdapi/v1/txt2img", json={**body, "alwayson_scripts": {"controlnet": {"args": [unit]}}})
        assert len(answer.json()["images"]) == 1


def test_what_is_no_unit_is_refused(server: Server) -> None:
    found = control(server, "canny")
    assert (found.status_code, found.json()["error"]) == (422, "InvalidField")


def test_a_picture_that_somebody_else_handed_in_is_not_there(tmp_path: Path) -> None:
    """The page names pictures by their hash: a unit's picture and mask must be the owner's own."""
    database = Database.open(tmp_path / "danqing.db", MIGRATIONS)
    names = [inputs.keep_image(tmp_path, Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue")]
    inputs.own(database, "anna", names[0])
    inputs.own(database, "bob", names[1])
    unit = ControlUnit(model="x", image=names[0], mask=names[1])
    request = GenerateRequest(control=(unit,))
    assert set(request.inputs) == set(names)
    inputs.check_own(database, "anna", [names[0]])
    for owner in ("anna", "bob"):
        with pytest.raises(DanqingError) as caught:
            inputs.check_own(database, owner, request.inputs)
        assert caught.value.code == "unknown_picture"
