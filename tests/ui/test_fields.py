"""Whatever stands in the boxes becomes a request or a sentence."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as config
from hypothesis import strategies as st

from danqing import app as house
from danqing.errors import DanqingError
from danqing.settings import Settings
from danqing.ui.fields import ASPECTS, NAMES, REAL, TEXTS, WHOLE, aspect_size, request_of

LIMITS = Settings(house.ROWS)
GOOD: dict[str, Any] = {
    **dict.fromkeys(WHOLE + REAL, 0),
    **dict.fromkeys(TEXTS, ""),
    "tab": "txt2img",
    "prompt": "a star",
    "sampler": "Euler",
    "scheduler": "Automatic",
    "steps": 20,
    "width": 128,
    "height": 128,
    "seed": "-1",
    "batch_size": 1,
    "n_iter": 1,
    "clip_skip": 1,
    "cfg_scale": 7,
    "extras_resize": 2,
    "extras_width": 64,
    "extras_height": 64,
    "hires_scale": 2,
    "hires_upscaler": "Latent",
}


def refused(**values: Any) -> DanqingError:
    with pytest.raises(DanqingError) as caught:
        request_of({**GOOD, **values}, LIMITS)
    return caught.value


def test_good_boxes() -> None:
    request = request_of({**GOOD, "steps": 20.0, "seed": " 9007199254740993 ", "cfg_scale": "4.5"}, LIMITS)
    assert (request.steps, request.seed, request.cfg_scale) == (20, 9007199254740993, 4.5)
    assert request_of({**GOOD, "seed": ""}, LIMITS).seed == -1
    assert request_of({**GOOD, "seed": None}, LIMITS).seed == -1


@pytest.mark.parametrize(
    ("box", "value", "code"),
    [
        ("steps", None, "not_a_number"),
        ("steps", "", "not_a_number"),
        ("steps", 0, "out_of_range"),
        ("steps", 10**9, "out_of_range"),
        ("steps", 2.5, "not_whole"),
        ("width", -8, "out_of_range"),
        ("width", 10**6, "out_of_range"),
        ("width", math.nan, "not_a_number"),
        ("height", math.inf, "not_a_number"),
        ("height", "NaN", "not_a_number"),
        ("cfg_scale", 1e9, "out_of_range"),
        ("cfg_scale", -1e9, "out_of_range"),
        ("cfg_scale", [7], "not_a_number"),
        ("cfg_scale", True, "not_a_number"),
        ("seed", "ten", "not_a_number"),
        ("seed", "9" * 5000, "not_a_number"),
        ("seed", str(2**63), "out_of_range"),
        ("n_iter", 10**30, "out_of_range"),
        ("batch_size", {"a": 1}, "not_a_number"),
        ("prompt", "x" * 10**6, "text_too_long"),
        ("prompt", "\ud800", "broken_text"),
        ("negative_prompt", "\0", "broken_text"),
        ("prompt", 5, "invalid_field"),
        ("sampler", "Nobody", "unknown_sampler"),
        ("scheduler", "Never", "unknown_scheduler"),
        ("sampler", None, "unknown_sampler"),
    ],
)
def test_bad_boxes_are_named(box: str, value: Any, code: str) -> None:
    error = refused(**{box: value})
    assert error.code == code
    assert error.params.get("field", box) == box
    assert all(error.text(language) for language in ("en", "zh"))


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.just("1e400")
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, ANYTHING)))
@config(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_anything_is_a_request_or_a_sentence(values: dict[str, Any]) -> None:
    """A refusal with a sentence is an answer; any other exception fails the test."""
    with contextlib.suppress(DanqingError):
        request = request_of({**GOOD, **values}, LIMITS)
        assert 1 <= request.steps <= LIMITS.get_int("limit_steps")


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("native", [128, 512, 1024])
def test_aspects_keep_the_area(aspect: str, native: int) -> None:
    width, height = aspect_size(aspect, native)
    across, down = map(int, aspect.split(":"))
    assert width % 8 == height % 8 == 0
    assert width * height == pytest.approx(native * native, rel=0.13)
    assert width / height == pytest.approx(across / down, rel=0.13)


NAME = "a" * 64


def request(**values: Any) -> Any:
    return request_of({**GOOD, **values}, LIMITS)


def test_hires_refiner_and_variation_only_when_switched_on() -> None:
    boxes = {
        "hires_scale": 1.5,
        "hires_denoise": 0.4,
        "hires_sampler": "Euler a",
        "subseed": 7,
        "subseed_strength": 0.3,
    }
    plain = request(**boxes)
    assert (plain.hires, plain.subseed_strength, plain.denoising_strength) == (None, 0, None)
    full = request(
        **boxes, hires_on=True, variation_on=True, refiner_on=True, refiner_checkpoint="x", refiner_switch_at=0.8
    )
    assert (full.hires.scale, full.hires.sampler, full.denoising_strength) == (1.5, "Euler a", 0.4)
    assert (full.subseed, full.subseed_strength, full.refiner_checkpoint) == (7, 0.3, "x")


def test_image_tabs_need_a_picture_and_inpainting_a_mask() -> None:
    assert refused(tab="img2img").params["field"] == "init"
    assert refused(tab="inpaint").params["field"] == "inpaint_image"
    assert refused(tab="inpaint", inpaint_image=NAME).params["field"] == "inpaint_mask"
    assert refused(tab="extras").params["field"] == "extras_images"
    drawn = request(tab="img2img", init=NAME, init_sketch="b" * 64, denoise=0.6, resize_mode=2, hires_on=True)
    assert (drawn.kind, drawn.init_images, drawn.denoising_strength) == ("img2img", ("b" * 64,), 0.6)
    assert drawn.hires is None


def test_inpainting() -> None:
    boxes = {"mask_blur": 9, "mask_fill": 2, "mask_area": 1, "mask_padding": 16, "mask_invert": 1}
    drawn = request(tab="inpaint", inpaint_image=NAME, inpaint_mask=NAME, soft_on=True, soft_detail=4, **boxes).inpaint
    assert (drawn.blur_x, drawn.fill, drawn.only_masked, drawn.padding, drawn.invert) == (9, 2, True, 16, True)
    assert drawn.soft.detail == 4


def test_upscaling_takes_all_pictures() -> None:
    asked = request(tab="extras", extras_images=f"{NAME} {'b' * 64}", extras_resize=3, extras_upscaler_1="Lanczos")
    assert (asked.kind, len(asked.init_images), asked.extras.resize) == ("extras", 2, 3)


def test_scripts_by_tab_with_their_boxes() -> None:
    box = "script_x-y-z-plot_x_values"
    plot = request(script_txt2img="x/y/z plot", **{box: "1,2"}).script
    assert (plot.name, plot.args["x_values"], plot.args["csv_mode"]) == ("x/y/z plot", "1,2", True)
    assert request(script_img2img="loopback").script is None
    assert refused(script_txt2img="no such script").code == "unknown_script"
    loop = request(tab="img2img", init=NAME, script_img2img="loopback", script_loopback_loops=3.0).script
    assert loop.args["loops"] == 3


def test_units_that_are_switched_on() -> None:
    unit = {"control1_on": True, "control1_module": "canny", "control1_model": "edges [12345678]", "control1_res": -1.0}
    found = request(**unit, control1_image=NAME, control1_start=0.1, control0_model="other").control
    assert [(one.module, one.model, one.guidance_start) for one in found] == [("canny", "edges [12345678]", 0.1)]
    assert refused(control2_on=True).params["field"] == "control_model"


def test_options_of_the_reader_and_of_a_pasted_text() -> None:
    drawn = request(options_pasted=["eta_noise_seed_delta: 31337", "nonsense: 1"], vae="None")
    assert (drawn.options.eta_noise_seed_delta, drawn.options.sd_vae) == (31337, "None")


def test_a_finished_picture_as_first_pass() -> None:
    drawn = request(first_pass=NAME, hires_scale=1.5, hires_denoise=0.3)
    assert (drawn.hires.first_pass, drawn.hires.scale, drawn.denoising_strength) == (NAME, 1.5, 0.3)
