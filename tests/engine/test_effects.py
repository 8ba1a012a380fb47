"""What prompts and pictures do is seen in pictures: the miniature model, looked at pixel by pixel."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.gallery import inputs
from danqing.request import GenerateRequest, Inpaint

from .conftest import Bench

Pixels = np.ndarray

BASE = GenerateRequest(sampler="DPM++ 2M", steps=10, width=128, height=128, cfg_scale=5.0, seed=3)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """An engine on the model that ships, in a data folder without any other."""
    return Bench(tmp_path_factory.mktemp("mini"), engine_gain=10.0)


def drawn(bench: Bench, requests: dict[str, GenerateRequest]) -> dict[str, list[Pixels]]:
    """The pictures of each request, all drawn in one company."""
    found = bench.draw(**requests)
    errors = [one.error for one in found.values() if one.error is not None]
    assert not errors, errors
    return {name: [one.images[i].astype(int) for i in sorted(one.images)] for name, one in found.items()}


def asked(prompt: str, negative_prompt: str = "", **fields: object) -> GenerateRequest:
    return BASE.model_copy(update={"prompt": prompt, "negative_prompt": negative_prompt, **fields})


def redness(picture: Pixels) -> float:
    """Red above the mean of green and blue, over the picture."""
    return float((picture[..., 0] - picture[..., 1:].mean(-1)).mean())


def blueness(picture: Pixels) -> float:
    return float((picture[..., 2] - picture[..., :2].mean(-1)).mean())


def share(picture: Pixels, channel: int) -> float:
    """Pixels in which one channel stands far above the others."""
    others = np.delete(picture, channel, axis=-1).max(-1)
    return float((picture[..., channel] - others > 60).mean())


def test_a_weight_moves_its_word(mini: Bench) -> None:
    """(red:0.4) to (red:1.6): always redder."""
    weights = (0.4, 0.7, 1.0, 1.3, 1.6)
    found = drawn(mini, {f"w{w}": asked(f"a (red:{w}) house", batch_size=3) for w in weights})
    values = [float(np.mean([redness(one) for one in pictures])) for pictures in found.values()]
    assert all(before < after for before, after in itertools.pairwise(values)), values
    assert values[-1] - values[0] > 3


def test_a_negative_prompt_takes_away(mini: Bench) -> None:
    prompt = "a red circle on a white background"
    found = drawn(mini, {"with": asked(prompt), "without": asked(prompt, "red")})
    assert redness(found["without"][0]) < redness(found["with"][0]) - 3
    assert share(found["without"][0], 0) < share(found["with"][0], 0)


def test_an_edited_prompt_switches(mini: Bench) -> None:
    """Switched early it is the second colour; switched at the last step it is still the first."""
    requests = {
        "early": asked("a [red:blue:0.1] circle on a white background"),
        "late": asked("a [red:blue:0.9] circle on a white background"),
    }
    found = drawn(mini, requests)
    assert blueness(found["early"][0]) > 40
    assert redness(found["late"][0]) > 40


def test_and_combines(mini: Bench) -> None:
    """Each half alone has its own colour only; both together have both."""
    left, right = "a red circle on the left, white background", "a blue square on the right, white background"
    found = drawn(
        mini, {"left": asked(left), "right": asked(right), "both": asked(f"{left} AND {right}", batch_size=3)}
    )
    assert share(found["left"][0], 2) < 0.003
    assert share(found["right"][0], 0) < 0.003
    both = found["both"]
    assert np.mean([share(one, 0) for one in both]) > 0.01
    assert np.mean([share(one, 2) for one in both]) > 0.01


@pytest.fixture(scope="module")
def circle(mini: Bench) -> Pixels:
    return drawn(mini, {"a": asked("a red circle on a white background")})["a"][0]


def handed_in(bench: Bench, picture: Pixels) -> str:
    data: Path = bench.workshop.studio.data
    return inputs.keep_image(data, Image.fromarray(picture.astype(np.uint8)))


def test_a_picture_keeps_its_composition_as_the_strength_falls(mini: Bench, circle: Pixels) -> None:
    name = handed_in(mini, circle)
    strengths = (0.15, 0.4, 0.7, 1.0)
    fields = {"kind": "img2img", "init_images": (name,)}
    requests = {f"d{s}": asked("a green star on a white background", denoising_strength=s, **fields) for s in strengths}
    found = drawn(mini, requests)
    distances = [float(np.abs(pictures[0] - circle).mean()) for pictures in found.values()]
    assert all(before < after for before, after in itertools.pairwise(distances)), distances


@pytest.mark.parametrize("only_masked", [False, True])
def test_inpainting_leaves_everything_else(mini: Bench, circle: Pixels, only_masked: bool) -> None:
    mask = np.zeros(circle.shape[:2], np.uint8)
    mask[32:96, 64:] = 255
    inpaint = Inpaint(mask=handed_in(mini, mask), blur_x=0, blur_y=0, only_masked=only_masked)
    request = asked(
        "a green star on a white background",
        kind="img2img",
        init_images=(handed_in(mini, circle),),
        inpaint=inpaint,
        denoising_strength=0.9,
    )
    picture = drawn(mini, {"a": request})["a"][0]
    changed = np.abs(picture - circle).max(-1)
    assert changed[mask == 0].max() <= 1
    assert changed[mask > 0].max() > 60
