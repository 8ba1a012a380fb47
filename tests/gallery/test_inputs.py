"""Pictures that are handed in: one form, one name per content, bombs and rubbish refused, nothing removed that is needed."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.errors import DanqingError
from danqing.gallery import inputs, reading
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


def test_large_pictures_are_decoded_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a gigabyte each, and 200 KB on the way: thirty at once would take the machine's memory. Small ones do not wait."""
    monkeypatch.setattr(reading, "ROOM", reading.Room(150))
    inside, most, lock = 0, [0], threading.Lock()

    def use(wait: Callable[[], object]) -> Callable[[Image.Image], None]:
        def looked(image: Image.Image) -> None:
            nonlocal inside
            with lock:
                inside += 1
                most.append(inside)
            wait()
            with lock:
                inside -= 1

        return looked

    def all_at_once(side: int, wait: Callable[[], object]) -> int:
        most[:] = [0]
        picture = encoded(Image.new("RGB", (side, side)))
        threads = [threading.Thread(target=reading.decoded, args=(picture, 10**6, use(wait))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return max(most)

    assert all_at_once(10, lambda: time.sleep(0.05)) == 1
    assert all_at_once(7, threading.Barrier(3, timeout=20).wait) == 3
    assert all_at_once(20, lambda: time.sleep(0.02)) == 1, "what is larger than all of the room comes in alone"
    assert reading.ROOM._taken == 0


def test_the_memory_of_a_picture_is_bounded_while_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bringing it to its form and packing it belong to the room: they take as much as decoding."""
    held: list[int] = []
    monkeypatch.setattr(inputs, "_png", lambda image: (held.append(reading.ROOM._taken), b"png")[1])
    inputs.keep(tmp_path, encoded(Image.new("RGB", (30, 20))))
    assert held == [600]
