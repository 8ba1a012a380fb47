"""ControlNets that ship beside the miniature model: listed last, meant by their whole names only."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.library.controls import FOLDER, Controls
from danqing.library.index import MINI
from danqing.upscale.catalog import upscalers

SHIPPED = ["danqing-mini-canny", "danqing-mini-depth", "danqing-mini-openpose"]


def names(controls: Controls) -> list[str]:
    return [row.name for row in controls.all()]


def test_they_are_there_on_an_empty_disk_and_last_on_a_full_one(tmp_path: Path) -> None:
    controls = Controls(tmp_path)
    assert names(controls) == SHIPPED
    assert controls.find("danqing-mini-canny").path.parent == MINI.parent
    assert controls.find(controls.all()[1].title).name == "danqing-mini-depth"
    folder = tmp_path.joinpath(*FOLDER)
    folder.mkdir(parents=True)
    (folder / "zzz_canny_long_name_of_mine.safetensors").write_bytes(b"0" * 2**21)
    assert names(controls) == ["zzz_canny_long_name_of_mine", *SHIPPED]
    (folder / "danqing-mini-depth.safetensors").write_bytes(b"1" * 2**21)
    assert names(controls) == ["danqing-mini-depth", "zzz_canny_long_name_of_mine", SHIPPED[0], SHIPPED[2]]
    assert controls.find("danqing-mini-depth").path.parent == folder


def test_a_part_of_a_name_never_means_them(tmp_path: Path) -> None:
    controls = Controls(tmp_path)
    with pytest.raises(DanqingError) as caught:
        controls.find("canny")
    assert caught.value.code == "unknown_control"
    assert "danqing-mini-canny" in caught.value.text("en")
    folder = tmp_path.joinpath(*FOLDER)
    folder.mkdir(parents=True)
    (folder / "zzz_canny_long_name_of_mine.safetensors").write_bytes(b"0" * 2**21)
    assert controls.find("canny").name == "zzz_canny_long_name_of_mine"


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """People keep models for several programs in one place; a link back to where it came from ends the walk."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("edges.safetensors", "4x-sharp.pth"):
        (elsewhere / name).write_bytes(b"0" * 2**21)
    data = tmp_path / "data"
    for folder in (FOLDER, ("models", "ESRGAN")):
        data.joinpath(*folder).mkdir(parents=True)
        data.joinpath(*folder, "shared").symlink_to(elsewhere)
        (elsewhere / folder[-1]).symlink_to(data.joinpath(*folder))
    assert "edges" in names(Controls(data))
    assert "4x-sharp" in [row.name for row in upscalers(data)]
