"""Token merging against the published procedure, written out token by token."""

from __future__ import annotations

import pytest
import torch

from danqing.engine.token_merging import _matching, _squares, merged_tokens

from ..adapters.support import C, close, make_unet, normal, predict


def by_hand(
    tokens: torch.Tensor, x: torch.Tensor, height: int, width: int, removed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One picture: the set of merged tokens' values at each place, and which places share one."""
    stays = [r * width + c for r in range(0, height // 2 * 2, 2) for c in range(0, width // 2 * 2, 2)]
    others = [n for n in range(height * width) if n not in stays]
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    best = {n: max(stays, key=lambda s: float(unit[n] @ unit[s])) for n in others}
    ranked = sorted(others, key=lambda n: -float(unit[n] @ unit[best[n]]))
    groups: dict[int, list[int]] = {s: [s] for s in stays}
    for n in ranked[:removed]:
        groups[best[n]].append(n)
    value, owner = x.clone(), torch.arange(height * width)
    for s, members in groups.items():
        value[members] = x[members].mean(0)
        owner[members] = s
    return value, owner


@pytest.mark.parametrize(("height", "width", "ratio"), [(8, 8, 0.5), (6, 8, 0.3), (5, 7, 0.4), (4, 4, 0.9)])
def test_merging_and_taking_apart(height: int, width: int, ratio: float) -> None:
    count = height * width
    tokens, x = normal(2, count, 6, seed=1), normal(2, count, 5, seed=2)
    removed = int(count * ratio)
    merge, unmerge = _matching(tokens, *_squares(height, width, tokens.device), removed)
    small = merge(x)
    most = count - (height // 2) * (width // 2)
    assert small.shape[1] == count - min(removed, most)
    back = unmerge(small)
    for row in range(2):
        value, _ = by_hand(tokens[row], x[row], height, width, min(removed, most))
        assert torch.allclose(back[row], value, atol=1e-6)


def test_the_unet_at_full_size_only_and_nothing_left() -> None:
    unet = make_unet()
    before = predict(unet)
    seen: list[int] = []
    hooks = [
        module.to_q.register_forward_pre_hook(lambda _m, args: seen.append(args[0].shape[1]))
        for name, module in unet.named_modules()
        if name.endswith("attn1")
    ]
    with merged_tokens(unet, 0.5):
        merged = predict(unet)
    for hook in hooks:
        hook.remove()
    assert sorted(set(seen)) == [16, 32]  # the middle's 16 tokens stay, 64 become 32
    assert not close(merged, before, 1e-4)
    assert close(merged, before, 0.5)
    assert torch.equal(predict(unet), before)
    assert not any("forward" in module.__dict__ for module in unet.modules())
    assert not unet._forward_pre_hooks


def test_rows_do_not_see_each_other() -> None:
    unet = make_unet()
    x, t = normal(2, 4, 8, 8, scale=1.0), torch.tensor([500.0, 20.5])
    with torch.no_grad(), merged_tokens(unet, 0.4):
        both = unet(x, t, encoder_hidden_states=C).sample
        second = unet(x[1:], t[1:], encoder_hidden_states=C[1:]).sample
    assert close(both[1:], second)


def test_off_is_off() -> None:
    unet = make_unet()
    before = predict(unet)
    with merged_tokens(unet, 0.0):
        assert torch.equal(predict(unet), before)
