"""The UNet in the shape in which it is compiled: everything that a request brings is an input, nothing is a constant but weights.

Rows, tokens and the rank of the LoRA are free, height and width are fixed. A LoRA's matrices are inputs too, one pair for each
linear layer of the transformers (its slot), so that another LoRA, another strength or none is another argument and never another
compilation: x · W + x · down · up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from danqing.engine.patches import Row as LowRank

RANKS = 8
"""The rank of the slots is a multiple of this: matrices that a GPU reads whole."""

PREFIX = "unet."
"""Before the UNet's own names in the compiled code's list of constants."""

Variant = Literal["plain", "full"]
"""`plain`: the bare UNet. `full`: with slots for LoRA and the residuals of ControlNets."""

Inputs = tuple[
    torch.Tensor,
    torch.Tensor,
    torch.Tensor,
    list[torch.Tensor],
    list[torch.Tensor],
    list[torch.Tensor],
    list[torch.Tensor],
]
"""x, t, context, added conditioning (text_embeds and time_ids, or nothing), downs, ups, residuals (the middle's last)."""


class Compilable(nn.Module):
    """A UNet whose forward takes all that varies as tensors: see `Inputs`. Lists are empty where the variant has none."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self._slots = [module for _, module in slots_of(unet)]

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor,
        added: list[torch.Tensor],
        downs: list[torch.Tensor],
        ups: list[torch.Tensor],
        residuals: list[torch.Tensor],
    ) -> torch.Tensor:
        """(rows, 4, h, w) in the UNet's format."""
        more: dict[str, Any] = {}
        if added:
            more["added_cond_kwargs"] = {"text_embeds": added[0], "time_ids": added[1]}
        if residuals:
            more["down_block_additional_residuals"] = tuple(residuals[:-1])
            more["mid_block_additional_residual"] = residuals[-1]
        for module, down, up in zip(self._slots if downs else (), downs, ups, strict=bool(downs)):
            module.__dict__["forward"] = _with_slot(module, down, up)
        try:
            out: torch.Tensor = self.unet(x, t, encoder_hidden_states=context, return_dict=False, **more)[0]
            return out
        finally:
            for module in self._slots:
                module.__dict__.pop("forward", None)


def slots_of(unet: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers that a LoRA of the usual kind changes: those of the transformers, and the projections around them."""
    found: list[tuple[str, nn.Linear | nn.Conv2d]] = []
    for name, module in unet.named_modules():
        inside = ".transformer_blocks." in name and isinstance(module, nn.Linear)
        if inside or (name.endswith((".proj_in", ".proj_out")) and isinstance(module, nn.Linear | nn.Conv2d)):
            found.append((name, module))
    return found


def _with_slot(module: nn.Linear | nn.Conv2d, down: torch.Tensor, up: torch.Tensor) -> Any:
    """down: (rank, in). up: (out, rank), times the strength."""
    if isinstance(module, nn.Linear):
        return lambda x: (
            functional.linear(x, module.weight, module.bias) + functional.linear(functional.linear(x, down), up)
        )
    # As products and not as convolutions: inductor fixes the sizes of a convolution's weight, and with them the rank.
    return lambda x: (
        functional.conv2d(x, module.weight, module.bias) + (up @ (down @ x.flatten(2))).unflatten(2, x.shape[2:])
    )


@dataclass(frozen=True, slots=True)
class SlotTensors:
    """One set of adapters as the slots take it. `rank`: a multiple of `RANKS`."""

    downs: list[torch.Tensor]
    ups: list[torch.Tensor]
    rank: int


class Slots:
    """Lays low-rank additions out over the slots of one UNet."""

    def __init__(self, unet: nn.Module) -> None:
        self._modules = [module for _, module in slots_of(unet)]
        self._zeros: dict[tuple[int, int], torch.Tensor] = {}

    def laid_out(self, additions: Mapping[nn.Module, LowRank]) -> SlotTensors | None:
        """The tensors of a set of adapters, {} for none; None where a layer has no slot."""
        known = set(self._modules)
        if any(module not in known or row[1] is not None for module, row in additions.items()):
            return None
        widest = max((row[0].shape[0] for row in additions.values()), default=1)
        rank = -(-widest // RANKS) * RANKS
        downs, ups = [], []
        for module in self._modules:
            row = additions.get(module)
            outputs, inputs = module.weight.shape[:2]
            if row is None:
                downs.append(self._zero(module, rank, inputs))
                ups.append(self._zero(module, outputs, rank))
                continue
            down, _, up, scale = row
            missing = rank - down.shape[0]
            downs.append(functional.pad(down, (0, 0, 0, missing)))
            ups.append(functional.pad(up * scale, (0, missing)))
        return SlotTensors(downs, ups, rank)

    def _zero(self, module: nn.Linear | nn.Conv2d, *shape: int) -> torch.Tensor:
        """Shared by all slots of a shape."""
        key = (shape[0], shape[1])
        if key not in self._zeros:
            self._zeros[key] = module.weight.new_zeros(shape)
        return self._zeros[key]


def residual_shapes(unet: Any, height: int, width: int) -> list[tuple[int, int, int]]:
    """(C, h, w) of what ControlNets add to each skip connection, and to the middle at the end, for a latent of this size."""
    widths, layers = unet.config.block_out_channels, unet.config.layers_per_block
    found = [(widths[0], height, width)]
    for level, channels in enumerate(widths):
        found += [(channels, height, width)] * layers
        if level < len(widths) - 1:
            height, width = (height + 1) // 2, (width + 1) // 2
            found.append((channels, height, width))
    return [*found, (widths[-1], height, width)]


def example(unet: Any, variant: Variant, height: int, width: int, rows: int = 2, tokens: int = 77) -> Inputs:
    """Random inputs, height and width of the latent. The same for the same UNet's shape."""
    generator = torch.Generator().manual_seed(rows + tokens)
    config, parameter = unet.config, next(unet.parameters())

    def draw(*shape: int, times: float = 1.0) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * times).to(parameter.device, parameter.dtype)

    t = torch.linspace(1, 999, rows, device=parameter.device)
    added: list[torch.Tensor] = []
    if config.addition_embed_type == "text_time":
        numbers = 6 if config.projection_class_embeddings_input_dim % config.addition_time_embed_dim == 0 else 5
        pooled = config.projection_class_embeddings_input_dim - numbers * config.addition_time_embed_dim
        added = [draw(rows, pooled), draw(rows, numbers, times=100.0)]
    downs: list[torch.Tensor] = []
    ups: list[torch.Tensor] = []
    residuals: list[torch.Tensor] = []
    if variant == "full":
        for _, module in slots_of(unet):
            outputs, inputs = module.weight.shape[:2]
            downs.append(draw(2 * RANKS, inputs, times=inputs**-0.5))
            ups.append(draw(outputs, 2 * RANKS, times=0.1))
        residuals = [draw(rows, *shape, times=0.1) for shape in residual_shapes(unet, height, width)]
    context = draw(rows, tokens, config.cross_attention_dim)
    return draw(rows, config.in_channels, height, width), t, context, added, downs, ups, residuals


def free_dimensions(inputs: Inputs) -> tuple[Any, ...]:
    """Which dimensions of `inputs` compiled code must take as they come."""
    free = torch.export.Dim.DYNAMIC
    _, _, _, added, downs, ups, residuals = inputs
    return (
        {0: free},
        {0: free},
        {0: free, 1: free},
        [{0: free} for _ in added],
        [{0: free} for _ in downs],
        [{1: free} for _ in ups],
        [{0: free} for _ in residuals],
    )


def architecture_of(unet: Any) -> str:
    """16 hex digits: checkpoints that share them run the same compiled code."""
    shown = ("attention_head_dim", "norm_num_groups", "cross_attention_dim", "addition_embed_type", "layers_per_block")
    return described(unet, shown)


def described(network: Any, shown: Sequence[str]) -> str:
    """16 hex digits made from the shapes of all weights, and from what the shapes do not show: `shown` of the configuration."""
    config, parameter = network.config, next(network.parameters())
    text = "\n".join(
        [
            str(parameter.dtype),
            *(f"{name}={config[name]}" for name in shown),
            *(f"{name} {tuple(row.shape)} {_strides(row)}" for name, row in _named(network)),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _strides(tensor: torch.Tensor) -> str:
    return "last" if tensor.ndim == 4 and not tensor.is_contiguous() else ""


def _named(unet: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from unet.named_parameters()
    yield from unet.named_buffers()


def constants_of(network: nn.Module, wanted: Sequence[str], prefix: str = PREFIX) -> dict[str, torch.Tensor]:
    """A network's weights under the names that compiled code has for them: its own behind `prefix`.

    Raises:
        KeyError: it wants one that is not there, or has one of its own where the network's should be.
    """
    own = {prefix + name: tensor for name, tensor in _named(network)}
    if kept := {prefix + name for name, _ in network.named_parameters()} - set(wanted):
        raise KeyError(f"compiled in: {min(kept)}")
    return {name: own[name].detach() for name in wanted}
