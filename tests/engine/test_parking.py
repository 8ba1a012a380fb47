"""Models that made room wait in the host's memory and come back as they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from danqing.engine.calls import Load
from danqing.engine.parking import Parking
from danqing.engine.store import ModelStore

from .test_store import Disk, use

CPU = torch.device("cpu")


def model_of(seed: int) -> Any:
    torch.manual_seed(seed)
    networks = [nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(4), nn.Linear(8, 8)]
    unet, vae, text = networks
    return SimpleNamespace(unet=unet, vae=vae, encoders=(SimpleNamespace(module=text),))


def numbers(model: Any) -> list[torch.Tensor]:
    networks = (model.unet, model.vae, model.encoders[0].module)
    return [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]


def test_a_model_comes_back_as_it_was_and_off_the_device_meanwhile() -> None:
    parking, model = Parking(CPU, 10**6), model_of(1)
    before = [tensor.clone() for tensor in numbers(model)]
    places = [tensor.data_ptr() for tensor in numbers(model)]
    assert parking.park("a", model)
    assert not set(places) & {tensor.data_ptr() for tensor in numbers(model)}
    assert parking.take("b") is None
    assert parking.take("a") is model
    assert all(torch.equal(one, two) for one, two in zip(numbers(model), before, strict=True))
    assert model.unet.weight.is_contiguous(memory_format=torch.channels_last)
    assert parking.take("a") is None  # it is at work


def test_parking_again_copies_only_what_has_another_format() -> None:
    parking, model = Parking(CPU, 10**6), model_of(1)
    parking.park("a", model)
    hosts = [tensor.data_ptr() for tensor in numbers(model)]
    assert parking.take("a") is model
    assert hosts != [tensor.data_ptr() for tensor in numbers(model)]
    model.vae.double()  # as a VAE whose numbers were too large for less
    parking.park("a", model)
    again = [tensor.data_ptr() for tensor in numbers(model)]
    assert (again[:2], again[-2:]) == (hosts[:2], hosts[-2:])
    assert model.vae.weight.dtype == torch.float64
    assert again[2] != hosts[2]


def test_the_longest_parked_leaves_when_there_is_no_room() -> None:
    size = sum(tensor.nbytes for tensor in numbers(model_of(0)))
    parking = Parking(CPU, 2 * size)
    for name in "abc":
        assert parking.park(name, model_of(1))
    assert parking.take("a") is None
    assert parking.take("b") is not None
    assert not Parking(CPU, size - 1).park("a", model_of(1))
    assert not Parking(CPU, 0).park("a", model_of(1))


@pytest.mark.parametrize(("most", "read"), [(10**6, ["a", "b", "c"]), (0, ["a", "b", "c", "a"])])
def test_the_store_reads_a_parked_model_from_no_disk(tmp_path: Path, most: int, read: list[str]) -> None:
    disk = Disk(tmp_path)
    store = ModelStore(disk.load, 2, lambda model: disk.left.append(model.checkpoint.name), parking=Parking(CPU, most))
    first = use(store, Load(disk.checkpoint("a")))
    for name in "bca":
        again = use(store, Load(disk.checkpoint(name)))
    assert disk.read == read
    assert disk.left == ["a", "b"]
    assert (again is first) == (most > 0)


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    import os

    disk = Disk(tmp_path)
    store = ModelStore(disk.load, 1, parking=Parking(CPU, 10**6))
    use(store, Load(disk.checkpoint("a")))
    use(store, Load(disk.checkpoint("b")))
    os.utime(tmp_path / "a", ns=(1, 1))
    use(store, Load(disk.checkpoint("a")))
    assert disk.read == ["a", "b", "a"]
