"""Upscaling networks: tiles, safety, memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from danqing.errors import DanqingError
from danqing.upscale import networks

TINY = Path(__file__).parent.parent / "engine" / "reference" / "tiny4x.pth"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread_and_empty_shelf() -> None:
    torch.set_num_threads(1)
    networks.forget()


def picture(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (np.stack([x, y, 0.5 + 0.5 * np.sin(8 * x * y)], -1) * 255).astype(np.uint8)


def test_tiles_differ_from_the_whole_only_near_their_edges() -> None:
    pixels = picture(48, 40)
    whole, tiled = networks.run(TINY, pixels, 0, 0, CPU), networks.run(TINY, pixels, 32, 16, CPU)
    assert whole.shape == tiled.shape == (160, 192, 3)
    assert whole.dtype == np.uint8
    assert np.median(np.abs(whole.astype(int) - tiled)) <= 1


def test_safetensors_of_the_same_weights_do_the_same(tmp_path: Path) -> None:
    state = torch.load(TINY, weights_only=True)["params_ema"]
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "tiny.safetensors")
    pixels = picture(16, 16)
    assert (
        networks.run(tmp_path / "tiny.safetensors", pixels, 0, 0, CPU) == networks.run(TINY, pixels, 0, 0, CPU)
    ).all()


class Hostile:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["DANQING_TEST_MARK"],)


def test_hostile_files_are_refused_and_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("DANQING_TEST_MARK", str(mark))
    torch.save({"params": Hostile()}, tmp_path / "evil.pth")
    with pytest.raises(DanqingError) as caught:
        networks.run(tmp_path / "evil.pth", picture(8, 8), 0, 0, CPU)
    assert caught.value.code == "model_unsafe"
    assert not mark.exists()


def test_files_that_are_no_upscalers_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "cut.pth").write_bytes(TINY.read_bytes()[:100_000])
    torch.save({"weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 64)
    for name in ("text.pth", "cut.pth", "other.pth", "cut.safetensors", "nowhere.pth"):
        with pytest.raises(DanqingError) as caught:
            networks.run(tmp_path / name, picture(8, 8), 0, 0, CPU)
        assert caught.value.code == "model_broken", name
        assert caught.value.params["name"] == name


def test_weights_without_numbers_give_no_picture(tmp_path: Path) -> None:
    state = torch.load(TINY, weights_only=True)["params_ema"]
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(DanqingError) as caught:
        networks.run(tmp_path / "nan.pth", picture(8, 8), 0, 0, CPU)
    assert caught.value.code == "nan_picture"


def test_networks_are_kept_few_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    paths = [Path(shutil.copy(TINY, tmp_path / f"{index}.pth")) for index in range(3)]
    first = networks.loaded(paths[0], CPU)
    assert networks.loaded(paths[0], CPU) is first
    os.utime(paths[0], (1, 1))
    assert networks.loaded(paths[0], CPU) is not first
    for path in paths:
        networks.loaded(path, CPU)
    assert len(networks._kept) == networks.KEPT


def test_tiles_shrink_when_memory_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, sides = networks._forward, []

    def small_memory(network: object, path: Path, pixels: np.ndarray, device: torch.device) -> np.ndarray:
        sides.append(max(pixels.shape[:2]))
        if sides[-1] > 80:
            raise torch.OutOfMemoryError("no")
        return np.repeat(np.repeat(pixels, 4, 0), 4, 1)

    monkeypatch.setattr(networks, "_forward", small_memory)
    assert networks.run(TINY, picture(160, 160), 0, 8, CPU).shape == (640, 640, 3)
    assert sides[0] == 160
    assert sides[1] == 80
    monkeypatch.setattr(networks, "_forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(DanqingError) as caught:
        networks.run(TINY, picture(160, 160), 0, 8, CPU)
    assert caught.value.code == "out_of_memory"
    assert forward is not networks._forward
