"""Hypernetworks as the WebUI writes them: for each context width two small networks, one before the keys and one before the
values of every attention layer of that width. Each gives x + network(x) * strength.

A file is a table: width → (state of the keys' network, state of the values'), beside `layer_structure` (widths as multiples of
the context's), `activation_func`, `activate_output`, `is_layer_norm`. Dropout only matters in training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from danqing.adapters.reading import Contents
from danqing.errors import DanqingError

Step = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    **{"linear": nn.Identity, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "swish": nn.Hardswish},
    **{"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "celu": nn.CELU, "gelu": nn.GELU, "hardshrink": nn.Hardshrink},
    **{"hardsigmoid": nn.Hardsigmoid, "hardswish": nn.Hardswish, "hardtanh": nn.Hardtanh, "logsigmoid": nn.LogSigmoid},
    **{
        "logsoftmax": lambda: nn.LogSoftmax(-1),
        "mish": nn.Mish,
        "prelu": nn.PReLU,
        "rrelu": nn.RReLU,
        "relu6": nn.ReLU6,
    },
    **{"selu": nn.SELU, "silu": nn.SiLU, "softmax": lambda: nn.Softmax(-1), "softmin": lambda: nn.Softmin(-1)},
    **{"softplus": nn.Softplus, "softshrink": nn.Softshrink, "softsign": nn.Softsign, "tanhshrink": nn.Tanhshrink},
}
"""By the WebUI's names; its "swish" is torch's hard one."""

OLDEST = re.compile(r"linear([12])\.(weight|bias)")
"""The first files named their two layers so."""


@dataclass(frozen=True, slots=True)
class Network:
    """One small network: (…, width) to (…, width)."""

    steps: tuple[Step, ...]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return x


@dataclass(frozen=True, slots=True)
class Hypernetwork:
    """A file. states: width → (keys' state, values' state)."""

    name: str
    states: Mapping[int, tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]]
    activation: str
    activate_output: bool

    def networks(self, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Network, Network] | None:
        """The keys' and the values' network for this width; None where the file has none."""
        pair = self.states.get(width)
        if pair is None:
            return None
        keys, values = (self._network({name: t.to(device, dtype) for name, t in state.items()}) for state in pair)
        return keys, values

    def _network(self, state: Mapping[str, torch.Tensor]) -> Network:
        numbers = sorted({int(name.split(".")[1]) for name in state})
        linear = [n for n in numbers if state[f"linear.{n}.weight"].dim() == 2]
        steps: list[Step] = []
        for n in numbers:
            weight, bias = state[f"linear.{n}.weight"], state.get(f"linear.{n}.bias")
            if n in linear:
                steps.append(_linear(weight, bias))
                if self.activation not in ("prelu", "linear") and (n != linear[-1] or self.activate_output):
                    steps.append(ACTIVATIONS[self.activation]().eval())
            elif bias is None:
                steps.append(_prelu(weight))
            else:
                steps.append(_layer_norm(weight, bias))
        return Network(tuple(steps))


def hypernetwork_of(name: str, contents: Contents) -> Hypernetwork:
    """What a hypernetwork file holds, checked.

    Raises:
        DanqingError: `adapter_broken`, with the reason.
    """
    tree = contents.tree
    states = {width: pair for width, pair in tree.items() if isinstance(width, int) and not isinstance(width, bool)}
    activation = str(tree.get("activation_func") or "linear").lower()
    try:
        checked = {width: (_checked(pair[0], width), _checked(pair[1], width)) for width, pair in states.items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DanqingError("adapter_broken", name=name, reason=f"a damaged network ({error})"[:200]) from None
    if not checked:
        raise DanqingError("adapter_broken", name=name, reason="it is not a hypernetwork of the WebUI")
    if activation not in ACTIVATIONS:
        raise DanqingError("adapter_broken", name=name, reason=f"the activation {activation[:40]!r} is unknown")
    # Files from before the choice existed activate their output too.
    return Hypernetwork(name, checked, activation, bool(tree.get("activate_output", True)))


def _checked(state: Mapping[str, torch.Tensor], width: int) -> dict[str, torch.Tensor]:
    """The state under today's names, when its layers follow one another and lead back to `width`."""
    found = {}
    for name, tensor in state.items():
        early = OLDEST.fullmatch(name)
        found[f"linear.{int(early[1]) - 1}.{early[2]}" if early else name] = tensor
    wide = width
    for n in sorted({int(name.split(".")[1]) for name in found}):
        weight, bias = found[f"linear.{n}.weight"], found.get(f"linear.{n}.bias")
        if weight.dim() == 2:
            if weight.shape[1] != wide:
                raise ValueError(f"layer {n} wants {weight.shape[1]} numbers and gets {wide}")
            wide = weight.shape[0]
        elif weight.dim() != 1 or weight.numel() not in ((1, wide) if bias is None else (wide,)):
            raise ValueError(f"layer {n} is {weight.numel()} wide in a network of {wide}")
        if bias is not None and bias.shape != (wide,):
            raise ValueError(f"layer {n} of {wide} numbers adds {list(bias.shape)}")
    if wide != width:
        raise ValueError(f"{width} numbers go in and {wide} come out")
    return found


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> Step:
    return lambda x: functional.linear(x, weight, bias)


def _layer_norm(weight: torch.Tensor, bias: torch.Tensor) -> Step:
    return lambda x: functional.layer_norm(x, weight.shape, weight, bias)


def _prelu(weight: torch.Tensor) -> Step:
    return lambda x: functional.prelu(x, weight) if weight.numel() == 1 else torch.where(x < 0, x * weight, x)
