"""Preprocessors with networks: random weights of the right shape where real ones cannot be had, and what is wrong with files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data as photographs

from danqing.control import catalog, maps, networks, plain
from danqing.control.plain import Pixels
from danqing.errors import DanqingError

LIGHT = (
    "pidinet",
    "pidinet_safe",
    "pidinet_scribble",
    "pidinet_sketch",
    "softedge_teed",
    "softedge_anyline",
    "lineart_coarse",
)
"""Modules whose networks are small enough for every run of the tests."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with random weights in the layout of the real files."""
    from controlnet_aux.lineart import Generator
    from controlnet_aux.pidi.model import pidinet
    from controlnet_aux.teed.ted import TED

    root = tmp_path_factory.mktemp("annotators")
    folder = root.joinpath(*maps.FOLDER)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    state = {f"module.{key}": value for key, value in pidinet().state_dict().items()}
    torch.save({"state_dict": state}, folder / "table5_pidinet.pth")
    for name in ("5_model.pth", "MTEED.pth"):
        torch.save(TED().state_dict(), folder / name)
    for name in ("sk_model.pth", "sk_model2.pth"):
        torch.save(Generator(3, 1, 3).state_dict(), folder / name)
    yield root
    networks.forget()


def picture(height: int, width: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 255, (height, width, 4), dtype=np.uint8)


def made(data: Path, module: str, image: Pixels) -> Pixels:
    values = catalog.settings_of(catalog.find(module), 64)
    return maps.detect(data, module, image, resolution=values.resolution, a=values.a, b=values.b)


@pytest.mark.parametrize("module", LIGHT)
@pytest.mark.parametrize(("size", "wanted"), [((77, 101), (64, 84)), ((1, 1), (64, 64)), ((300, 65), (295, 64))])
def test_odd_pictures_give_maps_of_their_proportions(
    data: Path, module: str, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    found = made(data, module, picture(*size))
    assert found.dtype == np.uint8
    assert found.shape == (*wanted, 3)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_photographs(data: Path, name: str) -> None:
    """Of scikit-image: NASA, public domain; R. Michetti and S. van der Walt, CC0."""
    photograph = getattr(photographs, name)()
    for module in LIGHT:
        found = made(data, module, photograph)
        values = catalog.settings_of(catalog.find(module), 64)
        assert found.shape == (*plain.map_size(*photograph.shape[:2], values.resolution), 3), module


def test_the_network_decides(data: Path) -> None:
    """Another picture, another map; the same one, the same."""
    first, second = (made(data, "lineart_coarse", picture(*size)) for size in ((64, 64), (64, 64)))
    assert (first == second).all()
    assert (first != made(data, "lineart_coarse", picture(64, 64)[::-1])).any()


def test_every_module_with_a_network_is_wired() -> None:
    names = {row.name for row in catalog.ROWS if row.how == "network"}
    assert names == networks.NETWORKS.keys() | networks.POSES.keys()


def test_no_more_networks_are_kept_than_said(data: Path) -> None:
    for module in LIGHT:
        made(data, module, picture(8, 8))
    assert len(networks._kept) == networks.KEPT


def test_a_large_picture_is_made_smaller_first() -> None:
    small, size = networks._prepared(np.zeros((4000, 4000, 3), np.uint8), 4000)
    assert small.shape[0] * small.shape[1] <= networks.MOST_PIXELS * 1.05
    assert size[0] == size[1]


@pytest.mark.parametrize("module", [row.name for row in catalog.ROWS if row.how == "network"])
def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path: Path, module: str) -> None:
    with pytest.raises(DanqingError) as caught:
        made(tmp_path, module, picture(8, 8))
    assert caught.value.code == "annotator_missing"
    assert str(tmp_path / "models" / "annotators" / catalog.find(module).files[0]) in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("boom",)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, pickle.dumps(Bomb()), pickle.dumps({"state_dict": {}})])
def test_a_broken_or_hostile_file_is_named(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path.joinpath(*maps.FOLDER)
    folder.mkdir(parents=True)
    (folder / "table5_pidinet.pth").write_bytes(content)
    with pytest.raises(DanqingError) as caught:
        made(tmp_path, "pidinet", picture(8, 8))
    assert caught.value.code == "annotator_broken"
    assert "table5_pidinet.pth" in str(caught.value)
    assert "boom" not in capsys.readouterr().out
