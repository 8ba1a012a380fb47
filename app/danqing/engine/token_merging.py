"""Token merging for Stable Diffusion, Bolya and Hoffman 2023 (https://arxiv.org/abs/2303.17604): faster, a little different.

In the self-attention at the latent's full size the tokens that resemble another most are averaged with it, and take its answer
afterwards. One token of each 2 × 2 square, the upper left, stays to be merged into; nothing is random.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

STRIDE = 2
"""Side of the squares of which one token stays."""

Mapper = Callable[[torch.Tensor], torch.Tensor]


@contextlib.contextmanager
def merged_tokens(unet: nn.Module, ratio: float) -> Iterator[None]:
    """Within the context the UNet merges this share of its tokens, 0..1 (three quarters is the most that can be)."""
    if ratio <= 0:
        yield
        return
    merging = _Merging(ratio)
    hook = unet.register_forward_pre_hook(merging.see)
    touched: list[nn.Module] = []
    for block in unet.modules():
        # By shape and not by class: whatever attends to itself and then to a text.
        if isinstance(getattr(block, "norm1", None), nn.LayerNorm) and hasattr(block, "attn1"):
            merging.attach(block)
            touched += [block, block.attn1]  # type: ignore[list-item]
    try:
        yield
    finally:
        hook.remove()
        for module in touched:
            module.__dict__.pop("forward", None)


@dataclass(slots=True)
class _Merging:
    """One forward's merging. size: height and width of the latent that the UNet is given."""

    ratio: float
    size: tuple[int, int] = (0, 0)
    _kept: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def see(self, _unet: nn.Module, inputs: tuple[Any, ...]) -> None:
        size = (int(inputs[0].shape[-2]), int(inputs[0].shape[-1]))
        if size != self.size:
            self.size = size
            self._kept.clear()

    def attach(self, block: Any) -> None:
        """The block measures its tokens as they come in, its self-attention works on the merged ones."""
        own, attend = type(block).forward.__get__(block), type(block.attn1).forward.__get__(block.attn1)
        pair: list[tuple[Mapper, Mapper]] = []

        def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            pair[:] = self.pair_for(hidden_states)
            return own(hidden_states, *args, **kwargs)

        def attend_merged(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not pair:
                return attend(hidden_states, *args, **kwargs)
            merge, unmerge = pair[0]
            return unmerge(attend(merge(hidden_states), *args, **kwargs))

        block.__dict__["forward"] = forward
        block.attn1.__dict__["forward"] = attend_merged

    def pair_for(self, tokens: torch.Tensor) -> list[tuple[Mapper, Mapper]]:
        """[(merge, unmerge)] for tokens (B, N, C) at full size; [] for those of the deeper levels."""
        height, width = self.size
        removed = int(tokens.shape[1] * self.ratio)
        if tokens.shape[1] != height * width or removed <= 0 or min(height, width) < STRIDE:
            return []
        if tokens.device not in self._kept:
            self._kept[tokens.device] = _squares(height, width, tokens.device)
        return [_matching(tokens, *self._kept[tokens.device], removed)]


def _squares(height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of the tokens that may be merged away, and of those that stay."""
    stays = torch.zeros(height, width, dtype=torch.bool)
    stays[: height // STRIDE * STRIDE : STRIDE, : width // STRIDE * STRIDE : STRIDE] = True
    flat = stays.flatten()
    return (~flat).nonzero().flatten().to(device), flat.nonzero().flatten().to(device)


def _matching(tokens: torch.Tensor, source: torch.Tensor, target: torch.Tensor, removed: int) -> tuple[Mapper, Mapper]:
    """Merge and unmerge for these tokens: each of the `removed` sources that resemble a target most goes into that target."""
    batch, count, _ = tokens.shape
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    best, partner = (unit[:, source] @ unit[:, target].transpose(-1, -2)).max(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    removed = min(removed, len(source))
    gone, left = order[:, :removed], order[:, removed:]
    into = partner.gather(1, gone)

    def pick(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))

    def merge(x: torch.Tensor) -> torch.Tensor:
        sources, targets = x[:, source], x[:, target]
        index = into[..., None].expand(-1, -1, x.shape[-1])
        means = targets.scatter_reduce(1, index, pick(sources, gone), reduce="mean")
        return torch.cat([pick(sources, left), means], 1)

    def unmerge(x: torch.Tensor) -> torch.Tensor:
        rest, targets = x[:, : count - len(target) - removed], x[:, count - len(target) - removed :]
        out = x.new_empty(batch, count, x.shape[-1])
        out[:, target] = targets
        for index, rows in ((left, rest), (gone, pick(targets, into))):
            out.scatter_(1, source[index][..., None].expand(-1, -1, x.shape[-1]), rows)
        return out

    return merge, unmerge
