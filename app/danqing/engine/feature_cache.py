"""Features kept between steps: DeepCache, Ma, Fang and Wang 2023 (https://arxiv.org/abs/2312.00858). Faster, a little different.

What the UNet's depths say changes little from one step to the next. A full forward keeps the hidden state that goes into the last
layer of the last level; the forwards after it compute only that layer, from a fresh first convolution and what was kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from danqing.engine.control_rows import Step

Caching = Literal["", "keep", "reuse"]
"""What a forward does with the features of its rows: nothing, keep them, or reuse those kept."""

Slot = list[torch.Tensor]
"""One row's features, (C, h, w), or empty."""


@contextlib.contextmanager
def keeping(unet: Any, slots: Sequence[Slot]) -> Iterator[None]:
    """Within the context a full forward leaves each row's features in its slot."""
    skip = unet.config.block_out_channels[0]

    def keep(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        for slot, row in zip(slots, inputs[0][:, :-skip].unbind(0), strict=True):
            slot[:] = [row.clone()]

    hook = unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def reused(step: Step, slots: Sequence[Slot]) -> torch.Tensor:
    """What the UNet says of each row, (rows, 4, h, w), from its slot's features and its last layer alone."""
    unet, x = step.model.unet, step.x
    embedding = unet.time_embedding(unet.get_time_embed(sample=x, timestep=step.t))
    more = unet.get_aug_embed(emb=embedding, encoder_hidden_states=step.context, added_cond_kwargs=step.added or {})
    embedding = embedding if more is None else embedding + more
    hidden = torch.cat([torch.stack([slot[0] for slot in slots]), unet.conv_in(x)], dim=1)
    last = unet.up_blocks[-1]
    hidden = last.resnets[-1](hidden, embedding)
    if getattr(last, "attentions", None) is not None:
        hidden = last.attentions[-1](hidden, encoder_hidden_states=step.context, return_dict=False)[0]
    if unet.conv_norm_out is not None:
        hidden = unet.conv_act(unet.conv_norm_out(hidden))
    out: torch.Tensor = unet.conv_out(hidden)
    return out
