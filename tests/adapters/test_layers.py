"""Each kind of layer against its formula, worked out in float64 with NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from danqing.adapters.layers import layer_of

from .support import normal

Array = np.ndarray[Any, Any]
OUT, IN, RANK = 12, 8, 3
LINEAR = (OUT, IN)
CONV = (OUT, IN, 3, 3)


def made(seed: int, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name: normal(*shape, seed=seed + n) for n, (name, shape) in enumerate(shapes.items())}


def numbers(tensors: dict[str, torch.Tensor]) -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in tensors.items()}


def tucker(core: Array, rows: Array, columns: Array) -> Array:
    """By hand: sum over both ranks."""
    out = np.zeros((rows.shape[1], columns.shape[1], *core.shape[2:]))
    for r in range(core.shape[0]):
        for s in range(core.shape[1]):
            out += rows[r][:, None, None, None] * columns[s][None, :, None, None] * core[r, s][None, None]
    return out


def kron(one: Array, two: Array) -> Array:
    rows = [np.concatenate([one[i, j] * two for j in range(one.shape[1])], 1) for i in range(one.shape[0])]
    return np.concatenate(rows, 0)


def rotation(block: Array, most: float = 0.0, norm: float | None = None) -> Array:
    skew = block - block.T
    if norm is not None and norm > most > 0:
        skew = skew * most / norm
    one = np.eye(len(block))
    return (one + skew) @ np.linalg.inv(one - skew)


def lora_linear(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(1, down=(RANK, IN), up=(OUT, RANK))
    n = numbers(t)
    return {**t, "alpha": torch.tensor(2.0)}, n["up"] @ n["down"] * 2 / 3


def lora_conv(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(2, down=(RANK, IN, 3, 3), up=(OUT, RANK, 1, 1))
    n = numbers(t)
    return t, (n["up"].reshape(OUT, RANK) @ n["down"].reshape(RANK, -1)).reshape(CONV)


def lora_core(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(3, down=(RANK, IN, 1, 1), mid=(RANK, RANK, 3, 3), up=(OUT, RANK, 1, 1))
    n = numbers(t)
    added = tucker(n["mid"], n["up"].reshape(OUT, RANK).T, n["down"].reshape(RANK, IN))
    return {**t, "alpha": torch.tensor(1.0)}, added / 3


def dora_rows(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t, added = lora_linear(w)
    lengths = normal(OUT, 1, seed=9).abs()
    merged = w + added
    rows = [merged[i] / np.linalg.norm(merged[i]) * float(lengths[i]) for i in range(OUT)]
    return {**t, "dora": lengths}, np.stack(rows) - w


def dora_peft(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t, delta = dora_rows(w)
    return {**{name: v for name, v in t.items() if name != "dora"}, "magnitude": t["dora"].flatten()}, delta


def dora_columns(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t, added = lora_conv(w)
    lengths = normal(1, IN, 1, 1, seed=10).abs()
    merged = w + added
    out = np.empty_like(merged)
    for i in range(IN):
        out[:, i] = merged[:, i] / np.sqrt((merged[:, i] ** 2).sum()) * float(lengths[0, i])
    return {**t, "dora": lengths}, out - w


def loha(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(4, hada_w1_a=(OUT, RANK), hada_w1_b=(RANK, IN), hada_w2_a=(OUT, RANK), hada_w2_b=(RANK, IN))
    n = numbers(t)
    added = (n["hada_w1_a"] @ n["hada_w1_b"]) * (n["hada_w2_a"] @ n["hada_w2_b"])
    return {**t, "alpha": torch.tensor(1.5)}, added / 2


def loha_core(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    square = (RANK, RANK, 3, 3)
    t = made(5, hada_w1_a=(RANK, OUT), hada_w1_b=(RANK, IN), hada_w2_a=(RANK, OUT), hada_w2_b=(RANK, IN))
    t |= made(6, hada_t1=square, hada_t2=square)
    n = numbers(t)
    one, two = (tucker(n[f"hada_t{i}"], n[f"hada_w{i}_a"], n[f"hada_w{i}_b"]) for i in (1, 2))
    return {**t, "alpha": torch.tensor(3.0)}, one * two


def lokr_full(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(7, lokr_w1=(3, 2), lokr_w2=(4, 4))
    n = numbers(t)
    # Both whole: alpha is no factor.
    return {**t, "alpha": torch.tensor(7.0)}, kron(n["lokr_w1"], n["lokr_w2"])


def lokr_factors(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(8, lokr_w1_a=(3, RANK), lokr_w1_b=(RANK, 2), lokr_w2_a=(4, RANK), lokr_w2_b=(RANK, 4))
    n = numbers(t)
    added = kron(n["lokr_w1_a"] @ n["lokr_w1_b"], n["lokr_w2_a"] @ n["lokr_w2_b"])
    return {**t, "alpha": torch.tensor(6.0)}, added * 2


def lokr_conv(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(9, lokr_w1=(3, 2), lokr_w2_a=(4, RANK), lokr_w2_b=(RANK, 4, 3, 3))
    n = numbers(t)
    two = (n["lokr_w2_a"] @ n["lokr_w2_b"].reshape(RANK, -1)).reshape(4, 4, 3, 3)
    return t, kron(n["lokr_w1"], two)


def lokr_core(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(10, lokr_w1=(3, 2), lokr_t2=(RANK, RANK, 3, 3), lokr_w2_a=(RANK, 4), lokr_w2_b=(RANK, 4))
    n = numbers(t)
    return t, kron(n["lokr_w1"], tucker(n["lokr_t2"], n["lokr_w2_a"], n["lokr_w2_b"]))


def ia3_outputs(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(11, ia3=(OUT,))
    return {**t, "on_input": torch.tensor(False)}, np.diag(numbers(t)["ia3"]) @ w


def ia3_inputs(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(12, ia3=(1, IN, 1, 1))
    factors = numbers(t)["ia3"].reshape(-1)
    return {**t, "on_input": torch.tensor(1)}, np.stack([w[:, i] * factors[i] for i in range(IN)], 1)


def glora_new(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(13, a1=(IN, RANK), a2=(RANK, IN), b1=(OUT, RANK), b2=(RANK, IN))
    n = numbers(t)
    return {**t, "alpha": torch.tensor(1.0)}, (w @ n["a1"] @ n["a2"] + n["b1"] @ n["b2"]) / RANK


def glora_old(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(14, a1=(RANK, IN), a2=(IN, RANK), b1=(RANK, IN), b2=(OUT, RANK))
    n = numbers(t)
    return {**t, "alpha": torch.tensor(1.0)}, w @ n["a2"] @ n["a1"] + n["b2"] @ n["b1"]


def oft(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(15, oft=(3, 4, 4))
    blocks = numbers(t)["oft"]
    turned = np.concatenate([rotation(blocks[k]).T @ w[4 * k : 4 * k + 4] for k in range(3)])
    return t, turned - w


def oft_turned(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    """The rotations themselves, as LyCORIS 2.0 wrote them."""
    blocks = normal(3, 4, 4, seed=15).double().numpy()
    turns = [rotation(blocks[k]) for k in range(3)]
    turned = np.concatenate([turns[k].T @ w[4 * k : 4 * k + 4] for k in range(3)])
    return {"oft_turned": torch.from_numpy(np.stack(turns)).float(), "alpha": torch.tensor(0.5)}, turned - w


def oft_held(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(16, oft=(3, 4, 4))
    blocks = numbers(t)["oft"]
    norm = float(np.sqrt(((blocks - blocks.transpose(0, 2, 1)) ** 2).sum()))
    flat = w.reshape(OUT, -1)
    parts = [rotation(blocks[k], 0.01 * OUT, norm).T @ flat[4 * k : 4 * k + 4] for k in range(3)]
    return {**t, "alpha": torch.tensor(0.01)}, np.concatenate(parts).reshape(w.shape) - w


def boft(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    """Blocks of 2: round 0 turns neighbours, round 1 channels that lie two apart."""
    t = made(17, oft=(2, 6, 2, 2))
    t["rescale"] = normal(OUT, 1, seed=30)
    n = numbers(t)
    turned = w.copy()
    for i, pairs in enumerate(
        ([(2 * k, 2 * k + 1) for k in range(6)], [(4 * (k // 2) + k % 2, 4 * (k // 2) + k % 2 + 2) for k in range(6)])
    ):
        for k, (a, b) in enumerate(pairs):
            turned[[a, b]] = rotation(n["oft"][i, k]) @ turned[[a, b]]
    return t, turned * n["rescale"] - w


def full(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t = made(18, diff=LINEAR)
    return t, numbers(t)["diff"]


def scaled(w: Array) -> tuple[dict[str, torch.Tensor], Array]:
    t, added = lora_linear(w)
    return {**t, "scale": torch.tensor(0.25)}, added * 3 / 2 * 0.25


CASES: list[tuple[Callable[[Array], tuple[dict[str, torch.Tensor], Array]], tuple[int, ...]]] = [
    *((case, LINEAR) for case in (lora_linear, dora_rows, dora_peft, loha, lokr_full, lokr_factors, ia3_outputs)),
    *((case, LINEAR) for case in (glora_new, glora_old, oft, oft_turned, boft, full, scaled)),
    *((case, CONV) for case in (lora_conv, lora_core, dora_columns, loha_core, lokr_conv, lokr_core, ia3_inputs)),
    (oft_held, CONV),
]


@pytest.mark.parametrize(("case", "shape"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_the_change_of_a_weight(case: Callable[[Array], Any], shape: tuple[int, ...]) -> None:
    weight = normal(*shape, seed=99)
    tensors, expected = case(weight.double().numpy())
    layer = layer_of(tensors)
    assert layer is not None
    delta, bias = layer.changes(weight)
    assert bias is None
    assert delta is not None
    assert np.abs(delta.double().numpy() - expected).max() < 2e-6 * max(1.0, np.abs(expected).max())
    assert layer.low_rank == (case in (lora_linear, lora_conv, lora_core, scaled))


def test_a_bias_and_a_norm() -> None:
    layer = layer_of({"diff": normal(4, 3), "diff_b": normal(4, seed=1)})
    assert layer is not None
    _, bias = layer.changes(torch.zeros(4, 3))
    assert torch.equal(bias, normal(4, seed=1))  # type: ignore[arg-type]
    norm = layer_of({"w_norm": normal(4, seed=2), "b_norm": normal(4, seed=3)})
    assert norm is not None
    delta, bias = norm.changes(torch.ones(4))
    assert torch.equal(delta, normal(4, seed=2))  # type: ignore[arg-type]
    assert torch.equal(bias, normal(4, seed=3))  # type: ignore[arg-type]


def test_only_the_first_ranks() -> None:
    layer = layer_of({"down": normal(4, 8), "up": normal(6, 4, seed=1), "alpha": torch.tensor(2.0)})
    assert layer is not None
    delta, _ = layer.changes(torch.zeros(6, 8), rank=2)
    assert torch.allclose(delta, normal(6, 4, seed=1)[:, :2] @ normal(4, 8)[:2] * 0.5)  # type: ignore[arg-type]
    down, _, up = layer.factors(2)
    assert torch.allclose(up @ down * layer.scale, delta)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rank", "alpha"), [(0, 1.0), (0, None), (2, math.nan), (2, math.inf)], ids=["no rank", "neither", "nan", "inf"]
)
def test_scales_that_are_no_numbers(rank: int, alpha: float | None) -> None:
    given = {} if alpha is None else {"alpha": torch.tensor(alpha)}
    with pytest.raises(ValueError, match="rank 0" if rank == 0 else "finite"):
        layer_of({"down": torch.ones(rank, IN), "up": torch.ones(OUT, rank), **given})


def test_what_is_no_layer() -> None:
    assert layer_of({"alpha": torch.tensor(1.0)}) is None
    assert layer_of({"ia3": normal(3)}) is None
    assert layer_of({"up": normal(3, 2)}) is None
