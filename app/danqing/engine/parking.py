"""Checkpoints that had to leave the device wait in the host's memory: coming back takes a copy over the bus and no disk.

The copy in pinned memory is kept when a model goes back to the device, so that parking it again costs nothing; a driver reads
such memory by itself, and the copying runs beside what the device computes.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from danqing.engine.models import Model


@dataclass(slots=True)
class _Parked:
    """`hosts`: the numbers of each parameter and buffer, by network and name. `model`: while it is not on the device."""

    model: Model | None
    hosts: dict[tuple[int, str], torch.Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(host.nbytes for host in self.hosts.values())


class Parking:
    """Models beside the device. One thread at a time uses it: the one that loads.

    Args:
        device: where models work.
        most: bytes of the host's memory; 0 parks nothing.
    """

    def __init__(self, device: torch.device, most: int) -> None:
        self._device, self._most = device, most
        self._kept: OrderedDict[Hashable, _Parked] = OrderedDict()

    def park(self, key: Hashable, model: Model) -> bool:
        """Take a model off the device; whether it is kept. Nobody may be using it."""
        if self._most <= 0:
            return False
        slot = self._kept.setdefault(key, _Parked(None))
        self._kept.move_to_end(key)
        for number, name, tensor in _tensors(model):
            host = slot.hosts.get((number, name))
            if host is None or host.dtype != tensor.dtype:
                host = torch.empty_like(tensor, device="cpu", pin_memory=self._device.type == "cuda")
                host.copy_(tensor, non_blocking=True)
                slot.hosts[number, name] = host
        self._wait()
        for number, name, tensor in _tensors(model):
            tensor.data = slot.hosts[number, name]
        slot.model = model
        self._make_room()
        return key in self._kept

    def take(self, key: Hashable) -> Model | None:
        """The model of this key, back on the device; None where it is not parked."""
        slot = self._kept.get(key)
        if slot is None or slot.model is None:
            return None
        self._kept.move_to_end(key)
        model, slot.model = slot.model, None
        with self._beside():
            for number, name, tensor in _tensors(model):
                there = torch.empty_like(slot.hosts[number, name], device=self._device)
                there.copy_(slot.hosts[number, name], non_blocking=True)
                tensor.data = there
        return model

    def forget(self) -> None:
        """Give the memory back."""
        self._kept.clear()

    def _make_room(self) -> None:
        while self._kept and sum(slot.bytes for slot in self._kept.values()) > self._most:
            self._kept.popitem(last=False)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """Within the context copies go over a stream of their own, beside what the device computes; this thread waits."""
        if self._device.type != "cuda":
            yield
            return
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()


def _tensors(model: Model) -> Iterator[tuple[int, str, Any]]:
    """Number of the network, name and tensor of all that a model holds on its device."""
    networks = [model.unet, model.vae, *(encoder.module for encoder in model.encoders)]
    for number, network in enumerate(networks):
        if isinstance(network, nn.Module):
            for name, tensor in (*network.named_parameters(), *network.named_buffers()):
                yield number, name, tensor
