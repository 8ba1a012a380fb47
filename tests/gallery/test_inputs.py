"""Pictures that are handed in: one form, one name per content, bombs and rubbish refused, nothing removed that is needed."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.request import input_path


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(mode: str, size: tuple[int, int] = (9, 7)) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8), mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_comes_back_is_what_was_handed_in(tmp_path: Path, mode: str) -> None:
    image = noise(mode)
    name = inputs.keep(tmp_path, encoded(image))
    again = inputs.load(tmp_path, name)
    assert again.mode == mode
    assert again.tobytes() == image.tobytes()


def test_the_same_picture_is_stored_once(tmp_path: Path) -> None:
    image = noise("RGB")
    names = {inputs.keep(tmp_path, encoded(image, kind, **opts)) for kind, opts in (("PNG", {}), ("BMP", {}))}
    assert len(names) == 1
    assert len(list((tmp_path / "inputs").rglob("*.png"))) == 1


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    name = inputs.keep(tmp_path, encoded(Image.fromarray(values)))
    assert np.asarray(inputs.load(tmp_path, name)).tolist() == [[0, 1, 255]]


def test_palette_with_transparency_keeps_it(tmp_path: Path) -> None:
    image = noise("RGB").convert("P")
    name = inputs.keep(tmp_path, encoded(image, transparency=0))
    assert inputs.load(tmp_path, name).mode == "RGBA"


@pytest.mark.parametrize("junk", [b"", b"no picture", encoded(noise("RGB"))[:60]])
def test_rubbish_is_refused_by_name(tmp_path: Path, junk: bytes) -> None:
    with pytest.raises(DanqingError) as caught:
        inputs.keep(tmp_path, junk)
    assert caught.value.code == "broken_image"
    assert not list(tmp_path.rglob("*.png"))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(DanqingError, match="pixels"):
        inputs.keep(tmp_path, encoded(Image.new("L", (300, 300))), limit_pixels=80_000)


@pytest.mark.parametrize("name", ["", "..", "a/b", "0" * 63, "/etc/passwd", "G" * 64])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(DanqingError) as caught:
        input_path(tmp_path, name)
    assert caught.value.code == "unknown_picture"


def test_sweep_spares_what_is_young_or_wanted(tmp_path: Path) -> None:
    names = [inputs.keep(tmp_path, encoded(noise("RGB", (8, 8 + i)))) for i in range(3)]
    old = time.time() - 7200
    for name in names[:2]:
        os.utime(input_path(tmp_path, name), (old, old))
    assert inputs.sweep(tmp_path, [names[1]], hours=1) == 1
    assert [input_path(tmp_path, name).is_file() for name in names] == [False, True, True]
