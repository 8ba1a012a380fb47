"""Extras, held against the WebUI's pictures; plans driven by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine import extras as room
from danqing.engine.calls import Enlarge, Finished, Plan, Track, Work
from danqing.engine.scaling import scaled
from danqing.errors import DanqingError
from danqing.options import DrawOptions
from danqing.request import Extras, GenerateRequest
from danqing.upscale import networks

REFERENCE = Path(__file__).parent / "reference"
CASES = sorted((REFERENCE / "extras").glob("*.json"))
FIELDS = {
    "upscaling_resize": "resize",
    "upscaling_resize_w": "width",
    "upscaling_resize_h": "height",
    "upscaling_crop": "crop",
}
PICTURE = "a" * 64


class Inputs:
    """A studio with one input picture."""

    def __init__(self, data: Path, picture: Image.Image) -> None:
        self.data, self.picture = data, picture

    def image(self, _name: str) -> Image.Image:
        return self.picture


def driven(plan: Plan) -> tuple[list[Finished], list[Enlarge], Any]:
    """What a plan handed out, the networks that it ran, and what it returned."""
    finished, runs, answer = [], [], None
    while True:
        try:
            call = plan.send(answer)
        except StopIteration as stop:
            return finished, runs, stop.value
        answer = None
        if isinstance(call, Work):
            answer = call.run()
        elif isinstance(call, Enlarge):
            runs.append(call)
            answer = networks.run(call.path, call.pixels, call.tile, call.overlap, torch.device("cpu"))
        else:
            assert isinstance(call, Finished)
            finished.append(call)


def made(data: Path, wanted: Extras, picture: Image.Image, count: int = 1) -> list[Finished]:
    request = GenerateRequest(kind="extras", extras=wanted, init_images=(PICTURE,) * count)
    return driven(room.extras(request, Inputs(data, picture), Track(1)))[0]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("extras")
    (root / "models" / "ESRGAN").mkdir(parents=True)
    shutil.copy(REFERENCE / "tiny4x.pth", root / "models" / "ESRGAN")
    return root


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded_pictures(path: Path, data: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    wanted = Extras(**{FIELDS.get(key, key): value for key, value in case["request"].items() if key != "image"})
    picture = Image.open(REFERENCE / "inputs" / case["request"]["image"].removeprefix("@inputs/"))
    (finished,) = made(data, wanted, picture)
    recorded = np.asarray(Image.open(path.with_suffix(".png")).convert("RGB"))
    assert finished.pixels.shape == recorded.shape
    assert np.abs(finished.pixels.astype(int) - recorded).max() <= 1
    told = ", ".join(f"{key}: {value}" for key, value in finished.facts.extra.items())
    assert f"<p>{told}</p>" == case["html_info"]


def test_all_recorded_cases_are_here() -> None:
    assert len(CASES) == 13


def test_the_second_upscaler_shows_as_much_as_asked(data: Path) -> None:
    picture = Image.open(REFERENCE / "inputs" / "small64.png")
    wanted = Extras(upscaler_1="Lanczos", upscaler_2="Nearest", upscaler_2_visibility=0.25, resize=2)
    (mixed,) = made(data, wanted, picture)
    (one,), (two,) = (made(data, Extras(upscaler_1=name, resize=2), picture) for name in ("Lanczos", "Nearest"))
    expected = one.pixels * 0.75 + two.pixels * 0.25
    assert np.abs(mixed.pixels - expected).max() <= 1
    assert mixed.facts.extra["Postprocess upscaler 2"] == "Nearest"


def test_the_longest_side_is_limited(data: Path) -> None:
    picture = Image.open(REFERENCE / "inputs" / "check160x96.png")
    (finished,) = made(data, Extras(upscaler_1="Lanczos", resize=4, max_side=320), picture)
    assert finished.pixels.shape == (192, 320, 3)
    assert finished.facts.extra["Max side length"] == 320


def test_every_picture_is_handed_out_in_order(data: Path) -> None:
    pictures = made(data, Extras(upscaler_1="Nearest", resize=2), Image.new("RGB", (16, 16), "red"), count=3)
    assert [picture.index for picture in pictures] == [0, 1, 2]


def runs_of(data: Path, scale: float) -> int:
    plan = scaled(data, DrawOptions(ESRGAN_tile=0), "tiny4x", np.zeros((16, 16, 3), np.uint8), scale)
    _, runs, pixels = driven(plan)
    assert pixels.shape[:2] == (int(16 * scale // 8 * 8),) * 2
    return len(runs)


@pytest.mark.parametrize(("scale", "runs"), [(0.5, 0), (1.0, 1), (2.0, 1), (4.0, 1), (5.0, 2)])
def test_networks_run_until_the_target_is_reached(data: Path, scale: float, runs: int) -> None:
    assert runs_of(data, scale) == runs


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (Extras(upscaler_1="no such"), "unknown_upscaler"),
        (Extras(upscaler_1="Lanczos", upscaler_2="no such"), "unknown_upscaler"),
        (Extras(upscaler_1="R-ESRGAN 4x+"), "upscaler_missing"),
        (Extras(gfpgan_visibility=1), "files_missing"),
        (Extras(codeformer_visibility=1), "files_missing"),
        (Extras(upscaler_1="Lanczos", resize_mode=1, width=60000, height=60000), "too_many_pixels"),
    ],
)
def test_what_cannot_be_done_is_named(data: Path, wanted: Extras, code: str) -> None:
    with pytest.raises(DanqingError) as caught:
        made(data, wanted, Image.new("RGB", (64, 64)))
    assert caught.value.code == code
    assert "?" not in caught.value.text("en") + caught.value.text("zh")


def test_an_interruption_ends_after_the_picture(data: Path) -> None:
    track = Track(1)
    request = GenerateRequest(kind="extras", extras=Extras(upscaler_1="Nearest", resize=2), init_images=(PICTURE,) * 3)
    plan = room.extras(request, Inputs(data, Image.new("RGB", (16, 16))), track)  # type: ignore[arg-type]
    track.interrupted = True
    assert len(driven(plan)[0]) == 1
    assert (track.step, track.steps) == (1, 3)
