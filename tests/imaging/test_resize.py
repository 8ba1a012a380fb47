"""Sizes: the resize modes, and transparency."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from danqing.errors import DanqingError
from danqing.imaging.resize import CROP, FILL, STRETCH, flattened, inner_size, latent_size, resize_image

from .support import difference, given, gradient


@pytest.mark.parametrize(
    ("mode", "size", "wanted"),
    [
        (STRETCH, (160, 96), (128, 128)),
        (CROP, (160, 96), (213, 128)),
        (CROP, (96, 160), (128, 213)),
        (FILL, (160, 96), (128, 76)),
        (FILL, (96, 160), (76, 128)),
        (CROP, (64, 64), (128, 128)),
        (FILL, (64, 64), (128, 128)),
    ],
)
def test_inner_size_rounds_the_other_side_down(mode: int, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert inner_size(mode, size, 128, 128) == wanted


def test_crop_keeps_the_middle() -> None:
    cropped = np.asarray(resize_image(CROP, gradient(256, 128), 128, 128))
    assert cropped.shape == (128, 128, 3)
    assert abs(int(cropped[:, :, 0].mean()) - 127) <= 1
    assert cropped[:, 0, 0].max() < 70
    assert cropped[:, -1, 0].min() > 185


def test_fill_continues_the_edges() -> None:
    picture = Image.new("RGB", (64, 32), (10, 200, 30))
    assert difference(resize_image(FILL, picture, 64, 64), Image.new("RGB", (64, 64), (10, 200, 30))) == 0
    filled = np.asarray(resize_image(FILL, gradient(64, 32), 64, 64)).astype(int)
    assert np.abs(filled[:16, :, 0] - filled[16, :, 0]).max() <= 2, "columns go on upwards"
    assert (filled[:15] == filled[0]).all()
    assert (filled[50:] == filled[63]).all()


def test_an_upscaler_works_only_where_the_picture_grows() -> None:
    asked: list[tuple[int, int]] = []

    def upscale(image: Image.Image, width: int, height: int) -> Image.Image:
        asked.append((width, height))
        return image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST)

    assert resize_image(CROP, gradient(64, 32), 96, 96, upscale).size == (96, 96)
    assert asked == [(192, 96)]
    resize_image(STRETCH, gradient(64, 64), 32, 32, upscale)
    resize_image(STRETCH, gradient(64, 64).convert("L"), 128, 128, upscale)
    assert len(asked) == 1, "neither smaller nor greyscale pictures"


def test_transparency_is_laid_on_the_background() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert flattened(clear, "#102030").getpixel((1, 1)) == (16, 32, 48)
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    red, green, _ = flattened(half).getpixel((0, 0))  # type: ignore[misc]
    assert red == 255
    assert 120 <= green <= 130
    assert difference(flattened(given("grad128.png")), given("grad128.png").convert("RGB")) == 0
    with pytest.raises(DanqingError, match="no colour"):
        flattened(clear, "blueish")


def test_latent_sizes_are_whole_eighths() -> None:
    assert latent_size(100, 130) == (12, 16)
