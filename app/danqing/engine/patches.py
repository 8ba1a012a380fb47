"""What a set of adapters does to each module of a network, worked out once and put in place for one forward at a time.

A low-rank addition runs beside the module, x · down · up, in the network's own number format. Whatever else changes a weight
gets a changed copy of it, swapped in while the forward runs. A hypernetwork changes the input of keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from danqing.adapters.hypernetwork import Hypernetwork, Network
from danqing.adapters.layers import Layer, widened

ALIGNED = 16
"""Numbers that matrices begin at a multiple of, so that a GPU reads them whole."""

Forward = Callable[[torch.Tensor], torch.Tensor]

Row = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, float]
"""down, core, up and scale of one low-rank addition."""


@dataclass(frozen=True, slots=True)
class Use:
    """One layer of one adapter on one module. rank: the first so many ranks only, 0 for all."""

    layer: Layer
    strength: float
    rank: int = 0


@dataclass(slots=True)
class Patches:
    """Everything to put in place. bytes: of the tensors held."""

    forwards: list[tuple[nn.Module, Forward]] = field(default_factory=list)
    parameters: list[tuple[nn.Module, str, nn.Parameter]] = field(default_factory=list)
    bytes: int = 0
    additions: dict[nn.Module, Row] | None = field(default_factory=dict)
    """All that they do, where that is one low-rank addition a module at most; None where it is more."""

    def apply(self) -> Callable[[], None]:
        """Put all in place; what is returned takes it away again."""
        before = [(module, name, module._parameters[name]) for module, name, _ in self.parameters]
        for module, forward in self.forwards:
            module.__dict__["forward"] = forward
        for module, name, parameter in self.parameters:
            module._parameters[name] = parameter

        def remove() -> None:
            for module, _ in self.forwards:
                module.__dict__.pop("forward", None)
            for module, name, parameter in before:
                module._parameters[name] = parameter

        return remove


class Builder:
    """Works out the patches of one network.

    Args:
        most: bytes of changed weights that may be held; those beyond are made anew in every forward.
    """

    def __init__(self, most: int) -> None:
        self.patches = Patches()
        self._most = most
        self._beside: list[tuple[nn.Linear | nn.Conv2d, tuple[Row, ...]]] = []
        self._forwards: dict[nn.Module, Forward] = {}
        self._before: dict[nn.Module, list[tuple[Network, float]]] = {}

    def add(self, module: nn.Module, uses: Sequence[Use]) -> None:
        """The layers of all adapters on one module, in the adapters' order.

        Raises:
            ValueError, RuntimeError: when shapes do not fit.
        """
        if isinstance(module, nn.Linear | nn.Conv2d) and all(use.layer.low_rank for use in uses):
            self._beside.append((module, tuple(_row(module, use) for use in uses)))
            return
        self.patches.additions = None
        parameters = merged(module, uses)
        size = sum(parameter.nbytes for _, parameter in parameters)
        if self.patches.bytes + size <= self._most:
            self.patches.bytes += size
            self.patches.parameters.extend((module, name, parameter) for name, parameter in parameters)
        else:
            self._forwards[module] = _anew(module, tuple(uses))

    def add_hypernetwork(self, unet: nn.Module, hypernetwork: Hypernetwork, strength: float) -> int:
        """Before the keys and values of every attention layer whose width the file knows; returns how many there are."""
        self.patches.additions = None
        made: dict[int, tuple[Network, Network] | None] = {}
        count = 0
        for keys, values in attentions(unet):
            width = keys.in_features
            if width not in made:
                made[width] = hypernetwork.networks(width, keys.weight.device, keys.weight.dtype)
            pair = made[width]
            for module, network in zip((keys, values), pair or (), strict=False):
                self._before.setdefault(module, []).append((network, strength))
                count += 1
        return count

    def finish(self) -> Patches:
        """The patches."""
        self._settle()
        for module, networks in self._before.items():
            self._forwards[module] = _before(self._forwards.get(module) or bare(module), tuple(networks))
        self.patches.forwards.extend(self._forwards.items())
        return self.patches

    def _settle(self) -> None:
        """Bring the small matrices of all modules to the network's device and format together, and build their forwards."""
        rows = [row for _, group in self._beside for row in group]
        if rows:
            weight = self._beside[0][0].weight
            there = moved([t for row in rows for t in row[:3] if t is not None], weight.device, weight.dtype)
            for module, group in self._beside:
                mapped = [_mapped(row, there) for row in group]
                self._forwards[module] = _forward(module, mapped)
                self._note(module, mapped)
            self.patches.bytes += sum(t.nbytes for t in there.values())
        self._beside.clear()

    def _note(self, module: nn.Module, rows: Sequence[Row]) -> None:
        if self.patches.additions is None:
            return
        if any(row[1] is not None for row in rows):
            self.patches.additions = None
        else:
            self.patches.additions[module] = _joined(rows)


def moved(tensors: Sequence[torch.Tensor], device: torch.device, dtype: torch.dtype) -> dict[int, torch.Tensor]:
    """By the id of each tensor what it is on `device` in `dtype`.

    One conversion for all: several hundred small ones wait for each other's threads, and on a GPU for each other's copies.
    """
    found: dict[int, torch.Tensor] = {}
    for source in {tensor.dtype for tensor in tensors}:
        group = [tensor for tensor in tensors if tensor.dtype == source]
        gap = torch.zeros(ALIGNED, dtype=torch.float32).to(source)
        pieces = [piece for t in group for piece in (t.reshape(-1), gap[: -t.numel() % ALIGNED])]
        parts = iter(torch.split(torch.cat(pieces).to(device, dtype), [len(piece) for piece in pieces]))
        for tensor in group:
            found[id(tensor)] = next(parts).view(tensor.shape)
            next(parts)
    return found


def _row(module: nn.Linear | nn.Conv2d, use: Use) -> Row:
    """The layer's matrices flat, as the file has them.

    Raises:
        ValueError: when they do not fit.
    """
    down, core, up = use.layer.factors(use.rank)
    down, up = down.flatten(1), up.flatten(1)
    shape = module.weight.shape
    if isinstance(module, nn.Conv2d):
        seen = shape[1:] if core is None else shape[1:2]
        down = widened(down, torch.Size((down.shape[0], *seen))).flatten(1)
    inputs = shape[1:].numel() if core is None else shape[1]
    ranks = (down.shape[0], down.shape[0]) if core is None else (core.shape[0], core.shape[1])
    fits = down.shape == (ranks[1], inputs) and up.shape == (shape[0], ranks[0])
    if core is not None:
        fits = fits and isinstance(module, nn.Conv2d) and core.shape[2:] == shape[2:]
    if not fits:
        raise ValueError(f"a layer of {list(shape)} here is of {up.shape[0]} outputs and {down.shape[1]} inputs there")
    return down, core, up, use.layer.scale * use.strength


def _mapped(row: Row, there: dict[int, torch.Tensor]) -> Row:
    down, core, up, scale = row
    return there[id(down)], None if core is None else there[id(core)], there[id(up)], scale


def _forward(module: nn.Linear | nn.Conv2d, rows: Sequence[Row]) -> Forward:
    plain = [row for row in rows if row[1] is None]
    others: list[Row] = [(down[..., None, None], core, up, scale) for down, core, up, scale in rows if core is not None]
    joined = [_joined(plain)] if plain else []
    if isinstance(module, nn.Linear):
        ((down, _, up, scale),) = joined
        return _linear(bare(module), down, up.T, scale)
    inner = module.weight.shape[1:]
    return _conv(module, [*((down.reshape(-1, *inner), None, up, scale) for down, _, up, scale in joined), *others])


def _joined(rows: Sequence[Row]) -> Row:
    """Several additions of one kind are one of a larger rank."""
    if len(rows) == 1:
        return rows[0]
    return torch.cat([row[0] for row in rows]), None, torch.cat([row[2] * row[3] for row in rows], 1), 1.0


def merged(module: nn.Module, uses: Sequence[Use]) -> list[tuple[str, nn.Parameter]]:
    """The module's weight and bias as the layers make them, one after another, in the module's own format.

    Raises:
        ValueError, RuntimeError: when shapes do not fit.
    """
    old_weight, old_bias = module._parameters.get("weight"), module._parameters.get("bias")
    if old_weight is None:
        raise ValueError("a module without a weight")
    weight, bias = old_weight.float(), None if old_bias is None else old_bias.float()
    for use in uses:
        delta, added = use.layer.changes(weight, use.rank)
        if delta is not None:
            weight = weight + delta * use.strength
        if added is not None:
            if added.numel() != weight.shape[0] or "bias" not in module._parameters:
                raise ValueError(f"a bias of {added.numel()} for {weight.shape[0]} outputs")
            bias = added * use.strength + (0 if bias is None else bias)
    found = [("weight", old_weight, weight), ("bias", old_bias, bias)]
    return [
        (name, nn.Parameter(new.to(old_weight.dtype), requires_grad=False))
        for name, old, new in found
        if new is not None and not (old is not None and old.dtype == new.dtype and old.data_ptr() == new.data_ptr())
    ]


def bare(module: nn.Module) -> Forward:
    """The module's own forward, whatever stands in its place just now."""
    forward: Forward = type(module).forward.__get__(module)
    return forward


def attentions(unet: nn.Module) -> Iterator[tuple[nn.Linear, nn.Linear]]:
    """Keys' and values' projection of every attention layer."""
    for module in unet.modules():
        keys, values = getattr(module, "to_k", None), getattr(module, "to_v", None)
        if isinstance(keys, nn.Linear) and isinstance(values, nn.Linear):
            yield keys, values


def _linear(base: Forward, down: torch.Tensor, up: torch.Tensor, scale: float) -> Forward:
    """down: (rank, in). up: (rank, out)."""
    rank, outputs = up.shape

    def forward(x: torch.Tensor) -> torch.Tensor:
        out = base(x)
        hidden = functional.linear(x, down).reshape(-1, rank)
        if out.is_contiguous():
            out.view(-1, outputs).addmm_(hidden, up, alpha=scale)
            return out
        return out + (hidden @ up).reshape(out.shape) * scale

    return forward


def _conv(module: nn.Conv2d, rows: Sequence[Row]) -> Forward:
    """Through the module's own way of padding, which may be circular for the time being."""
    base = bare(module)

    def forward(x: torch.Tensor) -> torch.Tensor:
        out = base(x)
        for down, core, up, scale in rows:
            if core is None:
                hidden = module._conv_forward(x, down, None)
            else:
                hidden = module._conv_forward(functional.conv2d(x, down), core, None)
            out.add_(functional.conv2d(hidden, up[..., None, None]), alpha=scale)
        return out

    return forward


def _anew(module: nn.Module, uses: tuple[Use, ...]) -> Forward:
    base = bare(module)

    def forward(*args: Any) -> torch.Tensor:
        before = dict(module._parameters)
        try:
            module._parameters.update(merged(module, uses))
            out: torch.Tensor = base(*args)
            return out
        finally:
            module._parameters.update(before)

    return forward


def _before(inner: Forward, networks: Sequence[tuple[Network, float]]) -> Forward:
    """Each network is given what the one before it made, in the order of the prompt's tags."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        for network, strength in networks:
            x = x + network(x) * strength
        return inner(x)

    return forward
