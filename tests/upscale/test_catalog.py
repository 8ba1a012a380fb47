"""Which upscalers are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from danqing.errors import DanqingError
from danqing.upscale import catalog


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in (
        "ESRGAN/b_4x.pth",
        "ESRGAN/sub/A2x.safetensors",
        "ESRGAN/notes.txt",
        "RealESRGAN/RealESRGAN_x4plus.pth",
        "DAT/DAT_x2.pth",
        "SwinIR/swin.pt",
    ):
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_built_in_ones_come_first_then_the_files_by_name(data: Path) -> None:
    names = [row.name for row in catalog.upscalers(data)]
    assert names == ["None", "Lanczos", "Nearest", "A2x", "b_4x", "DAT x2", "R-ESRGAN 4x+", "swin"]
    assert catalog.upscalers(data / "nowhere") == catalog.BUILT_IN


def test_files_go_by_the_webuis_name_and_by_their_own(data: Path) -> None:
    path = data / "models" / "RealESRGAN" / "RealESRGAN_x4plus.pth"
    for name in ("R-ESRGAN 4x+", "RealESRGAN_x4plus", "RealESRGAN_x4plus.pth"):
        assert catalog.find(data, name).path == path
    assert catalog.find(data, "Nearest").kind == "nearest"
    assert catalog.find(data, "").kind == "none"


def test_missing_and_unknown_names_say_what_would_work(data: Path) -> None:
    with pytest.raises(DanqingError, match=r"scunet_color_real_gan\.pth") as missing:
        catalog.find(data, "ScuNET GAN")
    assert missing.value.code == "upscaler_missing"
    with pytest.raises(DanqingError, match="Lanczos, Nearest, A2x") as unknown:
        catalog.find(data, "x")
    assert unknown.value.code == "unknown_upscaler"


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("4x_foolhardy", 4),
        ("2xFilm", 4),
        ("RealESRGAN_x2plus", 2),
        ("A2x", 4),
        ("1x_denoise", 1),
        ("ESRGAN", 4),
        ("x16", 4),
    ],
)
def test_scales_are_read_from_names(name: str, scale: float) -> None:
    assert catalog.scale_in(name) == scale


def test_the_catalogue_needs_no_torch() -> None:
    code = (
        "import sys, danqing.upscale.catalog, danqing.upscale.faces\nprint(*({'torch', 'spandrel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
