"""Maps without weights: the recorded ones, what each shows, and pictures of every shape and size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from danqing.control import catalog, maps, plain
from danqing.control.plain import Pixels
from danqing.errors import DanqingError

from .support import lines, pixels

NOWHERE = Path("nowhere")
WEIGHTLESS = [row.name for row in catalog.ROWS if row.how == "plain"]


def made(module: str, image: Pixels, resolution: float = -1, a: float = -1, b: float = -1, seed: int = 0) -> Pixels:
    """A map with the settings that a request's numbers come to."""
    row = catalog.find(module)
    values = catalog.settings_of(row, resolution, a, b)
    mask = np.zeros(image.shape[:2], np.uint8) if row.needs_mask else None
    return maps.detect(
        NOWHERE, module, image, resolution=values.resolution, a=values.a, b=values.b, mask=mask, seed=seed
    )


@pytest.mark.parametrize(
    "module", ["canny", "invert", "none", "recolor_intensity", "recolor_luminance", "scribble_xdog"]
)
def test_as_recorded(module: str) -> None:
    found = made(module, pixels("check160x96.png"), 128, 64, 128)
    recorded = pixels(f"detect_{module}.0.png")
    assert found.shape == recorded.shape
    assert np.abs(found.astype(int) - recorded).max() <= 2


def test_pixel_perfect_as_recorded() -> None:
    picture = pixels("check160x96.png")
    resolution = maps.pixel_perfect_resolution((96, 160), (128, 128), "Crop and Resize")
    assert resolution == 128
    found = made("canny", picture, resolution)
    middle = (found.shape[1] - 128) // 2
    assert (found[:, middle : middle + 128] == pixels("unit_canny_pixel_perfect.png")).all()


@pytest.mark.parametrize(
    ("image", "target", "mode", "wanted"),
    [
        ((96, 160), (512, 512), "Crop and Resize", 512),
        ((96, 160), (512, 512), "Just Resize", 512),
        ((96, 160), (512, 512), "Resize and Fill", 307),
        ((1, 1), (8, 8), "Resize and Fill", 8),
        ((6000, 8000), (1, 1), "Resize and Fill", 1),
    ],
)
def test_pixel_perfect_resolution(image: tuple[int, int], target: tuple[int, int], mode: str, wanted: int) -> None:
    assert maps.pixel_perfect_resolution(image, target, mode) == wanted


def test_shuffle_keeps_the_size_of_its_recording_and_the_colours_of_the_picture() -> None:
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:, 80:] = (200, 100, 50)
    found = made("shuffle", picture, 128, seed=3)
    assert found.shape == (512, 853, 3)
    assert {tuple(colour) for colour in found.reshape(-1, 3)} >= {(0, 0, 0), (200, 100, 50)}
    assert (found == made("shuffle", picture, seed=3)).all()
    assert (found != made("shuffle", picture, seed=4)).any()


def test_lines_are_white_on_black() -> None:
    for module in ("scribble_xdog", "lineart_standard", "canny"):
        found = made(module, lines(), 128)
        on, off = found[58:66, :40].max(), found[20:40, 20:40].max()
        assert on > 120, module
        assert off == 0, module


def test_threshold_asks_of_every_channel() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = (200, 200, 200)
    picture[32:, 32:, 1] = 20
    found = made("threshold", picture, 64, 127)
    assert found[0, 63].tolist() == [255] * 3
    assert found[63, 63].max() == found[0, 0].max() == 0


def test_blur_spreads_and_keeps_the_mean() -> None:
    found = made("blur_gaussian", lines(), 128, 9)
    assert abs(float(found.mean()) - lines().mean()) < 2
    assert found.std() < lines().std() / 2


def test_colour_grid_is_of_cells() -> None:
    found = made("color", np.random.default_rng(0).integers(0, 255, (128, 192, 3), dtype=np.uint8), 128)
    cells = found.reshape(2, 64, 3, 64, 3).transpose(0, 2, 1, 3, 4).reshape(6, -1, 3)
    assert all((cell == cell[0]).all() for cell in cells)
    assert len({tuple(cell[0]) for cell in cells}) == 6


def test_tile_shrinks_from_a_rate_of_1_1_on() -> None:
    picture = np.zeros((100, 60, 3), np.uint8)
    assert made("tile_resample", picture, a=1.09).shape == (100, 60, 3)
    assert made("tile_resample", picture, a=1.1).shape == (90, 54, 3)
    assert made("tile_resample", picture, a=8).shape == (12, 7, 3)


def test_gamma() -> None:
    grey = np.full((8, 8, 3), 128, np.uint8)
    assert made("recolor_intensity", grey, a=2.0)[0, 0, 0] == 64
    assert made("recolor_intensity", grey, a=1.0)[0, 0, 0] == 128


@pytest.mark.parametrize("module", ["inpaint_only", "inpaint"])
def test_inpaint_leaves_what_is_masked_black(module: str) -> None:
    white = np.full((20, 30, 3), 255, np.uint8)
    mask = np.zeros((10, 15), np.uint8)
    mask[:, :5] = 200
    found = maps.detect(NOWHERE, module, white, resolution=512, a=0.5, b=0.5, mask=mask)
    assert found[:, :10].max() == 0
    assert found[:, 10:].min() == 255
    with pytest.raises(DanqingError, match="mask"):
        maps.detect(NOWHERE, module, white, resolution=512, a=0.5, b=0.5)


def test_grey_transparent_and_deep_pictures() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    same = np.repeat(grey[:, :, None], 3, axis=2)
    assert (plain.rgb(grey) == same).all()
    assert (plain.rgb(grey[:, :, None]) == same).all()
    assert (plain.rgb(grey.astype(np.uint16) * 257) == same).all()
    clear = np.concatenate([same, np.zeros((16, 16, 1), np.uint8)], axis=2)
    assert plain.rgb(clear).min() == 255
    clear[:, :, 3] = 255
    assert (plain.rgb(clear) == same).all()


@settings(max_examples=40, deadline=None)
@given(
    module=st.sampled_from(WEIGHTLESS),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.sampled_from([0, 1, 3, 4]),
    deep=st.booleans(),
    seed=st.integers(0, 3),
)
def test_any_picture_gives_a_map(module: str, height: int, width: int, channels: int, deep: bool, seed: int) -> None:
    kind = np.uint16 if deep else np.uint8
    shape = (height, width, channels) if channels else (height, width)
    image = np.random.default_rng(seed).integers(0, np.iinfo(kind).max, shape, dtype=kind)
    before = image.copy()
    found = made(module, image, 64)
    assert found.dtype == np.uint8
    assert found.shape[2] == 3
    assert (image == before).all()
    if module in plain.SIZED:
        assert found.shape[:2] == plain.map_size(height, width, 64)


@pytest.mark.parametrize(
    ("size", "resolution", "wanted"),
    [
        ((96, 160), 128, (128, 213)),
        ((1, 1), 512, (512, 512)),
        ((6000, 8000), 512, (512, 683)),
        ((1, 8000), 512, (2, 16384)),
        ((100_000, 1), 2048, (16384, 1)),
        ((300, 600), 4096, (2896, 5793)),
    ],
)
def test_no_proportions_make_a_map_too_large(size: tuple[int, int], resolution: int, wanted: tuple[int, int]) -> None:
    assert plain.map_size(*size, resolution) == wanted


def test_large_pictures_stay_within_bounds() -> None:
    """8000x6000: at most 1 GB besides the picture, every module at its own resolution, the two that need most at the highest."""
    code = """
import numpy as np
from pathlib import Path
from danqing.control import catalog, maps, plain

def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) // 1024

image = np.zeros((6000, 8000, 3), np.uint8)
image[::50] = 255
mask = np.zeros((6000, 8000), np.uint8)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
asked = [(row.name, 512) for row in catalog.ROWS if row.how == "plain"]
for module, resolution in [*asked, ("recolor_luminance", 2048), ("lineart_standard", 2048)]:
    row = catalog.find(module)
    values = catalog.settings_of(row, resolution)
    found = maps.detect(
        Path("nowhere"), module, image, resolution=resolution, a=values.a, b=values.b, mask=mask if row.needs_mask else None
    )
    assert found.shape[2] == 3, found.shape
    sized = module in plain.SIZED or module == "shuffle"
    assert found.shape[:2] == (plain.map_size(6000, 8000, resolution) if sized else image.shape[:2]), (module, found.shape)
print(memory("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_photographs(name: str) -> None:
    """Of scikit-image: NASA, public domain; R. Michetti and S. van der Walt, CC0. Every map shows something, the same twice."""
    photograph = getattr(data, name)()
    for module in WEIGHTLESS:
        found = made(module, photograph, 256)
        assert found.dtype == np.uint8, module
        assert found.std() > 1, module
        assert (found == made(module, photograph, 256)).all(), module
        if module in plain.SIZED:
            assert found.shape[:2] == plain.map_size(*photograph.shape[:2], 256), module


def test_no_torch_for_maps_without_weights() -> None:
    code = """
import sys, numpy as np
from pathlib import Path
from danqing.control import catalog, maps, previews
maps.detect(Path("nowhere"), "canny", np.zeros((9, 9, 3), np.uint8), resolution=64, a=100, b=200)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("ip-adapter-auto", "preprocessor_without_map"),
        ("densepose", "preprocessor_absent"),
        ("zzz", "unknown_preprocessor"),
    ],
)
def test_what_makes_no_map_says_so(module: str, code: str) -> None:
    with pytest.raises(DanqingError) as caught:
        maps.detect(NOWHERE, module, lines(), resolution=64, a=0.5, b=0.5)
    assert caught.value.code == code


def test_an_absent_one_names_its_kin() -> None:
    with pytest.raises(DanqingError, match="depth_zoe"):
        maps.known("depth_anything")
