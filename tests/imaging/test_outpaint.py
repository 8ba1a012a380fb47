"""Outpainting's canvas and noise."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from danqing.imaging.outpaint import SIDES, Margins, Side, expansion, margins, new_area, shaped_noise, widened

from .support import difference, gradient


def test_the_canvas_grows_to_whole_64s_on_the_sides_that_grow() -> None:
    assert margins((512, 512), 128, ("left", "right")) == Margins(128, 128, 0, 0)
    assert margins((500, 512), 128, ("left", "right")) == Margins(134, 134, 0, 0)
    assert margins((500, 512), 100, ("right", "down")) == Margins(0, 140, 0, 128)


def test_the_picture_keeps_its_place() -> None:
    picture, by = gradient(64, 48), Margins(16, 8, 4, 32)
    canvas, mask = widened(picture, by), np.asarray(new_area(picture.size, by))
    assert canvas.size == by.size(picture.size) == (88, 84)
    assert difference(canvas.crop((16, 4, 80, 52)), picture) == 0
    assert (mask[4:52, 16:80] == 0).all()
    assert mask[3, 40] == mask[53, 40] == mask[20, 15] == mask[20, 81] == 255
    inset = np.asarray(new_area(picture.size, Margins(left=16), (8, 8)))
    assert inset[20, 23] == 255
    assert inset[20, 24] == 0
    assert inset[0, 40] == 0


def test_noise_has_the_colours_of_the_picture_and_one_seed() -> None:
    picture = np.asarray(gradient(64, 64)) / 255
    picture[..., 1] = 0.5 + 0.1 * picture[..., 1]
    painted = np.zeros((64, 64))
    painted[:, 40:] = 1
    one, two = (shaped_noise(picture, painted) for _ in range(2))
    assert (one == two).all(), "the same every time"
    np.testing.assert_allclose(one[:, :40], picture[:, :40])
    new = one[:, 40:]
    green = new[..., 1]
    assert green.min() >= 0.49, "green stays where the picture's green lies"
    assert green.max() <= 0.61
    assert new.std() > 0.05
    assert (shaped_noise(picture, np.ones((64, 64))) == np.clip(picture, 0, 1)).all()


@pytest.mark.parametrize("side", SIDES)
def test_a_step_gives_the_new_part_and_its_surroundings(side: Side) -> None:
    picture = gradient(128, 192)
    step = expansion(picture, side, 64, 8, (128, 128))
    across = side in ("left", "right")
    assert step.size == ((192, 192) if across else (128, 256))
    assert step.picture.size == step.mask.size == step.latent_mask.size == ((128, 192) if across else (128, 128))
    new, latent_new = np.asarray(step.mask) == 255, np.asarray(step.latent_mask) == 255
    along = 1 if across else 0
    counts = [mask.all(axis=1 - along).sum() for mask in (new, latent_new)]
    assert abs(counts[0] - 72) <= 1, "the mask reaches into the old part by one blur"
    assert abs(counts[1] - 80) <= 1, "the latent's by two"
    first = new.all(axis=1 - along)[0]
    assert first == (side in ("left", "up"))
    painted = Image.new("RGB", step.picture.size, "red")
    whole = step.finished(painted)
    assert whole.size == step.size
    corner = {"left": (191, 0), "right": (0, 0), "up": (0, 255), "down": (0, 0)}[side]
    old = {"left": (127, 0), "right": (0, 0), "up": (0, 191), "down": (0, 0)}[side]
    assert whole.getpixel(corner) == picture.getpixel(old), "what was not given away stays"
