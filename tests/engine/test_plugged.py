"""Plug-ins inside a real engine: scripts, samplers, upscalers and redraws of theirs, and what becomes of one that raises.

The photograph is scikit-image's `astronaut` (NASA, public domain).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageDraw

from danqing.control import catalog as control
from danqing.control.maps import detect
from danqing.engine import catalog
from danqing.gallery import inputs
from danqing.plugins.loading import activate, active
from danqing.request import Extras, GenerateRequest, Inpaint, Script
from danqing.shipped.detailer.engine import detected
from danqing.upscale.catalog import upscalers

from .conftest import Bench

PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "astronaut.png"
SIDE = 128
BASE = GenerateRequest(prompt="a circle", steps=2, sampler="Euler", width=64, height=64, seed=5)

PLUGIN = """
from danqing.plugins import Box, Preprocessor, Sampler, Script, Upscaler, hookimpl

@hookimpl
def danqing_scripts():
    boxes = (Box("turns", "Turns", "次数", 2, 1, 9, 1),)
    return [Script("Again", "Again", "再来", boxes, always_on=False), Script("Fault", "", "", (Box("on", "", "", False),))]

@hookimpl
def danqing_samplers():
    return [Sampler("Plain Euler"), Sampler("Broken")]

@hookimpl
def danqing_upscalers():
    return [Upscaler("Blocks", 2.0)]

@hookimpl
def danqing_preprocessors():
    return [Preprocessor("mirror", ("Tile",))]
"""
ENGINE = """
from danqing.plugins import Result, hookimpl

@hookimpl
def danqing_sample(name, x, course):
    if name == "Plain Euler":
        from danqing.engine.samplers_euler import euler
        return euler(x, course)
    if name == "Broken":
        return (1 / 0 for _ in "x")

@hookimpl
def danqing_upscale(name, image, scale):
    if name == "Blocks":
        return image.resize((image.width * 2, image.height * 2), 0)

@hookimpl
def danqing_preprocess(name, image, resolution):
    return image.transpose(0).resize((resolution, resolution)) if name == "mirror" else None

@hookimpl
def danqing_draw_script(name, request, args):
    if name == "again":
        return again(request, args["turns"])

def again(request, turns):
    found = []
    for turn in range(turns):
        wanted = request.model_copy(update={"seed": request.seed + turn})
        (image,) = yield [wanted]
        found.append(Result(image, wanted, {"Turn": turn + 1}))
    return found

@hookimpl
def danqing_redraw(request):
    if request.plugins.get("fault", {}).get("on"):
        raise ValueError("a fault of mine")
"""


@pytest.fixture(scope="module")
def plugged(tiny_data: Path) -> Iterator[Bench]:
    before = active()
    folder = tiny_data / "plugins" / "toys"
    folder.mkdir(parents=True)
    for name, text in (("plugin.toml", 'title = "Toys"'), ("plugin.py", PLUGIN), ("engine.py", ENGINE)):
        (folder / name).write_text(text, "utf-8")
    yield Bench(tiny_data)
    activate(before)
    shutil.rmtree(tiny_data / "plugins")


def error_of_toys() -> str:
    return next(one.error for one in active().all() if one.name == "toys")


def test_a_sampler_of_a_plugin_draws_as_ours_does(plugged: Bench) -> None:
    assert "Plain Euler" in catalog.sampler_names()
    assert catalog.split_sampler("Plain Euler Karras", None) == ("Plain Euler", "Karras")
    drawn = plugged.draw(ours=BASE, theirs=BASE.model_copy(update={"sampler": "Plain Euler"}))
    assert drawn["theirs"].error is None
    assert np.array_equal(drawn["ours"].images[0], drawn["theirs"].images[0])


def test_an_upscaler_of_a_plugin_enlarges(plugged: Bench, tiny_data: Path) -> None:
    assert "Blocks" in [row.name for row in upscalers(tiny_data)]
    name = inputs.keep_image(tiny_data, Image.effect_noise((32, 32), 80).convert("RGB"))
    request = GenerateRequest(kind="extras", init_images=(name,), extras=Extras(resize=2, upscaler_1="Blocks"))
    picture = plugged.draw(job=request)["job"].images[0]
    assert picture.shape == (64, 64, 3)
    assert np.array_equal(picture[::2, ::2], picture[1::2, 1::2])


def test_a_preprocessor_of_a_plugin_makes_maps(plugged: Bench, tiny_data: Path) -> None:
    assert "mirror" in [row.name for row in control.of_type("Tile")]
    assert "mirror" not in [row.name for row in control.of_type("Depth")]
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = 255
    made = detect(tiny_data, "mirror", image, resolution=8, a=0.5, b=0.5)
    assert np.array_equal(made, image[:, ::-1])


def test_a_script_of_a_plugin_asks_for_pictures_and_hands_them_out(plugged: Bench) -> None:
    script = Script(name="Again", args={"turns": 3})
    drawn = plugged.draw(alone=BASE.model_copy(update={"seed": 7}), job=BASE.model_copy(update={"script": script}))
    assert drawn["job"].error is None
    assert sorted(drawn["job"].images) == [0, 1, 2]
    assert np.array_equal(drawn["job"].images[2], drawn["alone"].images[0])
    assert drawn["job"].facts[2]["seed"] == 7
    assert drawn["job"].facts[2]["extra"] == {"Turn": 3}


def test_wildcards_draw_in_the_engine(plugged: Bench) -> None:
    request = BASE.model_copy(update={"prompt": "a {circle|circle}"})
    drawn = plugged.draw(plain=BASE, dynamic=request)
    assert np.array_equal(drawn["plain"].images[0], drawn["dynamic"].images[0])
    assert drawn["dynamic"].facts[0]["extra"]["Template"] == "a {circle|circle}"


def test_the_face_alone_is_drawn_anew(plugged: Bench, tiny_data: Path) -> None:
    """The lower half is inpainted, so the face comes through untouched; then the detailer takes it."""
    photograph = Image.open(PHOTOGRAPH).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    lower = Image.new("RGB", photograph.size)
    ImageDraw.Draw(lower).rectangle((0, 100, SIDE, SIDE), fill="white")
    request = GenerateRequest(
        kind="img2img",
        init_images=(inputs.keep_image(tiny_data, photograph),),
        inpaint=Inpaint(mask=inputs.keep_image(tiny_data, lower), blur_x=0, blur_y=0),
        prompt="a face",
        denoising_strength=0.6,
        steps=3,
        sampler="Euler",
        width=SIDE,
        height=SIDE,
        seed=3,
    )
    detail = {"after detailer": {"on": True, "strength": 0.8, "padding": 8}}
    drawn = plugged.draw(plain=request, mended=request.model_copy(update={"plugins": detail}))
    plain, mended = (drawn[one].images[0].astype(int) for one in ("plain", "mended"))
    (left, top, right, bottom), *more = detected(Image.fromarray(drawn["plain"].images[0]), tiny_data)
    changed = np.abs(plain - mended).max(axis=2) > 8
    assert changed[top:bottom, left:right].mean() > 0.3
    if not more:
        assert not changed[:, right + 24 :].any()
        assert not changed[bottom + 24 :].any()
    told = drawn["mended"].facts[0]["extra"]
    assert told["After detailer"] == f"faces {1 + len(more)}"
    assert told["After detailer denoising strength"] == 0.8
    assert "After detailer" not in drawn["plain"].facts[0]["extra"]


def test_a_fault_leaves_the_picture_and_ends_the_plugin(plugged: Bench) -> None:
    asked = BASE.model_copy(update={"plugins": {"fault": {"on": True}}})
    drawn = plugged.draw(plain=BASE, asked=asked)
    assert np.array_equal(drawn["plain"].images[0], drawn["asked"].images[0])
    assert error_of_toys().startswith("danqing_redraw: ValueError: a fault of mine")
    assert "Plain Euler" not in catalog.sampler_names()
    active().switch("toys", True)
    assert "Plain Euler" in catalog.sampler_names()


def test_a_sampler_that_breaks_fails_its_own_job(plugged: Bench) -> None:
    drawn = plugged.draw(plain=BASE, broken=BASE.model_copy(update={"sampler": "Broken"}))
    assert drawn["broken"].error is not None
    assert drawn["plain"].error is None
    assert 0 in drawn["plain"].images
