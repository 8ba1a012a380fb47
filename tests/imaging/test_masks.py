"""Masks of inpainting, against what the WebUI made of the same pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from danqing.imaging import masks
from danqing.imaging.masks import Box

from .support import difference, given, gradient, recorded


@pytest.fixture(scope="module")
def mask() -> Image.Image:
    """As the recorded cases prepared it: blurred by 4."""
    return masks.prepared(given("mask128.png"), True, False, 4, 4)


def test_the_overlay_mask_is_the_recorded_one(mask: Image.Image) -> None:
    assert difference(masks.whole_overlay_mask(mask).convert("RGB"), recorded("inp_retmask.1")) == 0


def test_the_original_is_laid_over_the_result_as_recorded(mask: Image.Image) -> None:
    """The WebUI drew the same latent with and without the overlay, and told the masked result too."""
    bare, original = recorded("inp_nooverlay.0"), given("grad128.png").convert("RGB")
    shown = masks.whole_overlay_mask(mask)
    assert difference(masks.composed(bare, masks.overlay(original, shown)), recorded("inp_retmask.0")) <= 1
    assert difference(masks.mask_composite(bare, shown), recorded("inp_retmask.2")) <= 1


@pytest.mark.parametrize("name", ["inp_blur0", "inp_blur12", "inp_invert"])
def test_outside_the_mask_the_original_stays(name: str) -> None:
    blur = {"inp_blur0": 0, "inp_blur12": 12, "inp_invert": 4}[name]
    shown = np.asarray(
        masks.whole_overlay_mask(masks.prepared(given("mask128.png"), True, name == "inp_invert", blur, blur))
    )
    original, result = (
        np.asarray(image.convert("RGB")).astype(int) for image in (given("grad128.png"), recorded(f"{name}.0"))
    )
    outside = shown == 0
    assert 0.05 < outside.mean() < 0.95
    assert np.abs(original - result)[outside].max() == 0
    assert np.abs(original - result)[shown == 255].max() > 20


def test_alpha_is_a_mask_only_where_it_says_something() -> None:
    picture = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    assert list(np.asarray(masks.binary_mask(picture)).ravel()) == [255, 255]
    picture.putpixel((0, 0), (0, 0, 0, 128))
    picture.putpixel((1, 0), (0, 0, 0, 129))
    assert list(np.asarray(masks.binary_mask(picture)).ravel()) == [0, 255]
    assert list(np.asarray(masks.binary_mask(picture, rounded=False)).ravel()) == [128, 129]


def test_each_axis_is_blurred_for_itself() -> None:
    dot = Image.new("L", (41, 41))
    dot.paste(255, (16, 16, 25, 25))
    wide = np.asarray(masks.blurred(dot, 4, 0))
    assert (wide[:16] == 0).all()
    assert wide[20, 10] > 0
    assert (wide == np.asarray(masks.blurred(dot, 0, 4)).T).all()
    assert masks.kernel_size(4) == 21


@pytest.mark.parametrize(
    ("box", "size", "picture", "wanted"),
    [
        ((20, 20, 111, 111), (128, 128), (128, 128), (20, 20, 111, 111)),
        ((40, 40, 60, 60), (128, 64), (128, 128), (30, 40, 70, 60)),
        ((0, 40, 20, 60), (128, 64), (128, 128), (0, 40, 40, 60)),
        ((108, 40, 128, 60), (128, 64), (128, 128), (88, 40, 128, 60)),
        ((10, 0, 30, 100), (200, 100), (100, 100), (0, 0, 100, 100)),
        ((40, 100, 60, 128), (64, 128), (128, 128), (40, 88, 60, 128)),
    ],
)
def test_the_crop_grows_to_the_aspect_inside_the_picture(
    box: Box, size: tuple[int, int], picture: tuple[int, int], wanted: Box
) -> None:
    assert masks.expanded(box, *size, picture) == wanted


def test_padding_stops_at_the_edge() -> None:
    mask = Image.new("L", (100, 80))
    mask.paste(255, (5, 30, 25, 50))
    assert masks.crop_region(mask, 10) == (0, 20, 35, 60)
    assert masks.crop_region(Image.new("L", (8, 8)), 3) is None
    assert masks.only_masked(Image.new("L", (8, 8)), 3, 64, 64) is None


def test_a_crop_goes_back_to_its_place() -> None:
    original = gradient(128, 96)
    mask = Image.new("L", original.size)
    mask.paste(255, (30, 30, 60, 60))
    box = masks.only_masked(mask, 4, 64, 64)
    assert box == (26, 26, 64, 64)
    painted = masks.cropped(Image.new("RGB", original.size, "red"), box, 64, 64)
    result = masks.composed(painted, masks.overlay(original, mask), box)
    assert result.size == original.size
    assert result.getpixel((45, 45)) == (255, 0, 0)
    outside = np.asarray(mask) == 0
    assert np.abs(np.asarray(result).astype(int) - np.asarray(original))[outside].max() == 0


def test_filling_brings_in_the_surroundings() -> None:
    picture = Image.new("RGB", (96, 96), (200, 40, 40))
    picture.paste((0, 0, 255), (32, 32, 64, 64))
    mask = Image.new("L", (96, 96))
    mask.paste(255, (28, 28, 68, 68))
    filled = np.asarray(masks.filled(picture, mask)).astype(int)
    assert np.abs(filled - (200, 40, 40)).max() <= 8, "no blue is left"


def test_latent_masks_round_only_when_asked() -> None:
    mask = masks.prepared(given("mask128.png"), False, False, 8, 8)
    grey = masks.latent_mask(mask, 16, 16, rounded=False)
    assert grey.shape == (16, 16)
    assert ((grey > 0) & (grey < 1)).any()
    assert set(np.unique(masks.latent_mask(mask, 16, 16, rounded=True))) == {0.0, 1.0}
