"""What is said of a GPU: none, no driver, a driver too old for the torch build, a broken one. No GPU is needed for this."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from danqing.box import gpu, tools
from danqing.box.places import Places
from danqing.errors import DanqingError
from danqing.jobs.engine_link import EngineLink
from tests.boxcli.conftest import box, well


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on the path, for a stand-in of NVIDIA's program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(tools, "PATH", f"{folder}:{tools.PATH}")
    return folder / "nvidia-smi"


def card(smi: Path, driver: str) -> None:
    smi.write_text(f"#!/bin/sh\necho 'Tesla T4, {driver}, 15360, 105'\n")
    smi.chmod(0o755)


def torch_of(monkeypatch: pytest.MonkeyPatch, cuda: str) -> None:
    monkeypatch.setattr(gpu, "torch_cuda", lambda: cuda)


def plug_in(places: Places) -> None:
    device = places.root / "sys/bus/pci/devices/0000:00:1e.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")


@pytest.mark.parametrize(
    ("driver", "cuda", "wanted"),
    [
        ("580.65.06", "13.0", ""),
        ("580.65.05", "13.0", "580.65.06"),
        ("535.183.01", "13.0", "580.65.06"),
        ("535.183.01", "12.6", ""),
        ("525.60.13", "12.8", ""),
        ("470.57.02", "12.6", "525.60.13"),
        ("470.57.02", "11.8", ""),
        ("595.91.07", "13.2", ""),
        ("1.0", "", ""),
        ("1.0", "99.0", ""),
    ],
)
def test_which_driver_a_build_needs(driver: str, cuda: str, wanted: str) -> None:
    assert gpu.too_old(driver, cuda) == wanted


def test_the_build_of_torch_is_known_without_importing_it() -> None:
    import torch

    assert gpu.torch_cuda() == (torch.version.cuda or "")


def test_no_gpu(places: Places, smi: Path) -> None:
    assert "draws on the CPU" in well("gpu", "--preflight")
    status = json.loads(places.status.read_text())
    assert (status["device"], status["error"]) == ("absent", None)
    assert status["phases"][0]["state"] == "done"


def test_a_gpu_without_a_driver(places: Places, smi: Path) -> None:
    plug_in(places)
    assert "no driver" in well("gpu", "--preflight")


def test_a_gpu_and_a_torch_for_cpus(places: Places, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card(smi, "580.105.08")
    torch_of(monkeypatch, "")
    assert "built for CPUs" in well("gpu", "--preflight")


def test_a_driver_that_fits(places: Places, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card(smi, "580.105.08")
    torch_of(monkeypatch, "13.0")
    text = well("gpu", "--preflight")
    assert "Tesla T4, driver 580.105.08, 105 / 15360 MB" in text


def test_a_driver_too_old_is_said_everywhere(places: Places, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card(smi, "470.57.02")
    torch_of(monkeypatch, "13.0")
    done = box("gpu", "--preflight")
    assert isinstance(done.exception, DanqingError)
    assert done.exception.code == "driver_too_old"
    assert "580.65.06 or newer" in str(done.exception)
    status = json.loads(places.status.read_text())
    assert "470.57.02" in status["error"]["en"]
    assert "过旧" in status["error"]["zh"]
    assert status["phases"][0]["state"] == "failed"
    assert readiness_error(places) == "driver_too_old"

    # mended
    card(smi, "580.105.08")
    well("gpu", "--preflight")
    assert json.loads(places.status.read_text())["error"] is None
    assert readiness_error(places) == ""


def readiness_error(places: Places) -> str:
    """What the web process says of an engine that somebody else starts."""

    class Nobody:
        async def ready(self) -> None: ...
        async def message(self, message: object) -> None: ...
        async def lost(self) -> None: ...

    async def ask() -> str:
        link = EngineLink(
            places.data, Nobody(), socket=Path("/nonexistent"), command=None, restart_seconds=1, connect_seconds=1
        )
        error = link.readiness().error
        return error.code if error else ""

    return asyncio.run(ask())


def test_a_cuda_operation_that_fails_is_told(places: Places, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here no CUDA operation can work; torch's own complaint is passed on."""
    card(smi, "580.105.08")
    torch_of(monkeypatch, "13.0")
    monkeypatch.setattr(gpu, "OPERATION", "raise RuntimeError('CUDA error: unspecified launch failure')")
    done = box("gpu")
    assert isinstance(done.exception, DanqingError)
    assert done.exception.code == "gpu_broken"
    assert "unspecified launch failure" in str(done.exception)


def test_a_cuda_operation_that_works_is_shown(places: Places, smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card(smi, "580.105.08")
    torch_of(monkeypatch, "13.0")
    monkeypatch.setattr(gpu, "OPERATION", 'print(\'{"seconds": 1.5, "capability": [7, 5]}\')')
    assert "CUDA 13.0 operation: 1.5 s" in well("gpu")
    told = json.loads(well("gpu", "--json"))
    assert (told["state"], told["operation"]["capability"]) == ("ok", [7, 5])


def test_the_driver_is_known_without_nvidias_program(
    places: Places, smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = places.root / "proc/driver/nvidia"
    folder.mkdir(parents=True)
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build\n"
    (folder / "version").write_text(text)
    assert gpu.driver_of(places) == "580.105.08"
    torch_of(monkeypatch, "13.0")
    assert gpu.preflight(places).state == "untested"
