"""The arithmetic of LoRA and LyCORIS: how the tensors that a file holds for one module change its weight.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685), LyCORIS (Yeh et al. 2023, https://arxiv.org/abs/2309.14859: LoHa, LoKr,
full, norm), DoRA (Liu et al. 2024, https://arxiv.org/abs/2402.09353), IA3 (Liu et al. 2022, https://arxiv.org/abs/2205.05638),
GLoRA (Chavan et al. 2023, https://arxiv.org/abs/2306.07967), OFT (Qiu et al. 2023, https://arxiv.org/abs/2306.07280) and BOFT
(Liu et al. 2023, https://arxiv.org/abs/2311.06243).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

import torch

LATENT = 4
WIDER = (5, 8, 9)
"""Input channels of models that see more than the latent: depth, instruct-pix2pix, inpainting."""

Tensors = Mapping[str, torch.Tensor]
"""By the names of `keys.LEAVES`."""

Change = Callable[[Tensors, torch.Tensor, int], torch.Tensor]
"""(tensors in float32, the weight in float32, most ranks or 0) to what is added to the weight, unscaled."""


class LowRank(NamedTuple):
    """x · down (· mid) · up, as stored; the layer's scale is still to come."""

    down: torch.Tensor
    mid: torch.Tensor | None
    up: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """What a file holds for one module. scale: the factor of its change before any strength, usually alpha / rank."""

    kind: str
    tensors: Tensors
    scale: float

    @property
    def low_rank(self) -> bool:
        """Whether it is an addition that two small matrices make, and nothing else."""
        return self.kind == "lora" and not self.tensors.keys() & {"dora", "magnitude", "diff_b", "b_norm"}

    def factors(self, rank: int = 0) -> LowRank:
        """The matrices of a low-rank layer; of only the first `rank` ranks where that is not 0."""
        down, up, mid = self.tensors["down"], self.tensors["up"], self.tensors.get("mid")
        if rank:
            down, up = down[:rank], up[:, :rank]
            mid = None if mid is None else mid[:rank, :rank]
        return LowRank(down, mid, up)

    def changes(self, weight: torch.Tensor, rank: int = 0) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What is added to the weight and to the bias at strength 1, float32 and on `weight`'s device; None where nothing is.

        Args:
            weight: as it is before this layer, any format.

        Raises:
            ValueError, RuntimeError: when the layer's shapes do not fit.
        """
        base = weight.float()
        tensors = {name: value.to(base.device, torch.float32) for name, value in self.tensors.items()}
        delta: torch.Tensor | None = None
        if self.kind in KINDS:
            delta = KINDS[self.kind](tensors, base, rank)
            if base.dim() == 4:
                delta = widened(delta, base.shape)
            delta = delta.reshape(base.shape) * self.scale
            for name in tensors.keys() & {"dora", "magnitude"}:
                delta = _decomposed(base + delta, tensors[name], by_output=name == "magnitude") - base
        bias = tensors.get("diff_b", tensors.get("b_norm"))
        return delta, None if bias is None else bias.flatten()


def widened(change: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A convolution's weights of `shape`, (rows, channels, …), where `change` has those of the latent's four channels only.

    What was made for a plain model changes them alone in an inpainting or instruct-pix2pix model, as in the WebUI. Anything else
    comes back as it is.
    """
    if shape[1] not in WIDER or change.numel() != shape[0] * LATENT * shape[2:].numel():
        return change
    whole = torch.zeros(shape, device=change.device).to(change.dtype)
    whole[:, :LATENT] = change.reshape(shape[0], LATENT, *shape[2:])
    return whole


def layer_of(tensors: Tensors) -> Layer | None:
    """The layer that these tensors make; None when they are of no known kind."""
    kind = kind_of(tensors.keys())
    return None if kind is None else Layer(kind, tensors, _scale(kind, tensors))


def kind_of(names: Set[str]) -> str | None:
    """The kind of layer that tensors of these names make; None for none that is known."""
    return next((kind for needed, kind in DETECT if needed <= names), None)


def _scale(kind: str, tensors: Tensors) -> float:
    """
    Raises:
        ValueError: no finite number, or a rank of 0.
    """
    rank = next((tensors[name].shape[0] for name in RANKS.get(kind, ()) if name in tensors), None)
    if rank == 0:
        raise ValueError("a layer of rank 0")
    if kind == "glora" and rank is not None and rank > tensors["b1"].shape[0]:
        rank = None  # the order of before; of such files the WebUI takes no alpha
    if "scale" in tensors:
        scale = float(tensors["scale"])
    elif rank is None or "alpha" not in tensors:
        scale = 1.0
    else:
        # Trainers write 0 for "as large as the rank".
        scale = (float(tensors["alpha"]) or rank) / rank
    if not math.isfinite(scale):
        raise ValueError("a scale that is no finite number")
    return scale


def _flat(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.flatten(1)


def _tucker(core: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """core (r, s, kh, kw), rows (r, out), columns (s, in): (out, in, kh, kw)."""
    return torch.einsum("rs...,ro,si->oi...", core, rows, columns)


def _lora(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    down, up = t["down"], t["up"]
    if "mid" in t:
        mid = t["mid"]
        if rank:
            down, up, mid = down[:rank], up[:, :rank], mid[:rank, :rank]
        return _tucker(mid, _flat(up).T, _flat(down))
    down, up = _flat(down), _flat(up)
    return up[:, :rank] @ down[:rank] if rank else up @ down


def _loha(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    if "hada_t1" in t:
        one = _tucker(t["hada_t1"], t["hada_w1_a"], t["hada_w1_b"])
        return one * _tucker(t["hada_t2"], t["hada_w2_a"], t["hada_w2_b"])
    return (t["hada_w1_a"] @ _flat(t["hada_w1_b"])) * (t["hada_w2_a"] @ _flat(t["hada_w2_b"]))


def _lokr(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    one = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ _flat(t["lokr_w1_b"])
    if "lokr_w2" in t:
        two = t["lokr_w2"]
    elif "lokr_t2" in t:
        two = _tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    else:
        columns = t["lokr_w2_b"]
        two = (_flat(t["lokr_w2_a"]) @ _flat(columns)).reshape(-1, *columns.shape[1:])
    if two.dim() < weight.dim():
        two = two.reshape(*two.shape, *(1,) * (weight.dim() - two.dim()))
    return torch.kron(one.reshape(*one.shape, *(1,) * (two.dim() - one.dim())), two.contiguous())


def _ia3(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    factors = t["ia3"].flatten()
    axis = 1 if "on_input" in t and bool(t["on_input"]) else 0
    shape = [1] * weight.dim()
    shape[axis] = -1
    return weight * factors.reshape(shape)


def _full(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    return t["diff"]


def _norm(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    return t["w_norm"]


def _glora(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    """W · A + B. The two small matrices of each have changed their order once; shapes tell it."""
    outputs, inputs = weight.shape[:2]
    a1, a2, b1, b2 = (_flat(t[name]) for name in ("a1", "a2", "b1", "b2"))
    left, right = (a1, a2) if a1.shape[0] == inputs else (a2, a1)
    up, down = (b1, b2) if b1.shape[0] == outputs and b2.shape[0] == b1.shape[1] else (b2, b1)
    added = _tucker(t["bm"], up.T, down) if "bm" in t else (up @ down).reshape(weight.shape)
    return torch.einsum("oi...,ir,rj->oj...", weight, left, right) + added


def _oft(t: Tensors, weight: torch.Tensor, rank: int) -> torch.Tensor:
    """Rotates groups of output channels: Cayley's map of skew-symmetric blocks (n, size, size), or butterflies of them.

    LyCORIS 2.0 wrote the rotations themselves (`oft_diag`).
    """
    if "oft" in t:
        blocks = t["oft"]
        rotation = _cayley(blocks, float(t["alpha"]) * weight.shape[0] if "alpha" in t else 0.0)
    else:
        rotation = blocks = t["oft_turned"]
    if blocks.dim() == 4:
        turned = _butterfly(rotation, weight)
    else:
        grouped = weight.reshape(blocks.shape[0], blocks.shape[1], -1)
        turned = torch.einsum("knm,kni->kmi", rotation, grouped).reshape(weight.shape)
    if "rescale" in t:
        turned = turned * t["rescale"].reshape(-1, *(1,) * (weight.dim() - 1))
    return turned - weight


def _cayley(blocks: torch.Tensor, most: float) -> torch.Tensor:
    """(I + Q)(I - Q)^-1 of Q = blocks - blocks^T, whose norm is held below `most` where that is not 0."""
    skew = blocks - blocks.transpose(-1, -2)
    if most > 0:
        norm = skew.norm()
        skew = skew * (norm.clamp(max=most) + 1e-8) / (norm + 1e-8)
    one = torch.eye(skew.shape[-1], device=skew.device)
    return torch.matmul(one + skew, torch.linalg.inv(one - skew))


def _butterfly(rotation: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """rotation (m, n, b, b): m rounds, each turns channels that lie further apart."""
    rounds, _, size, _ = rotation.shape
    turned = weight.flatten(1)
    columns = turned.shape[1]
    for i in range(rounds):
        reach = 2**i * (size // 2)
        mixed = turned.reshape(-1, 2, reach, columns).transpose(1, 2).reshape(-1, size, columns)
        mixed = torch.einsum("nij,njc->nic", rotation[i], mixed)
        turned = mixed.reshape(-1, reach, 2, columns).transpose(1, 2).reshape(-1, columns)
    return turned.reshape(weight.shape)


def _decomposed(merged: torch.Tensor, lengths: torch.Tensor, by_output: bool) -> torch.Tensor:
    """DoRA: the merged weight with the length of each row (one per output), or of each column, set to `lengths`.

    Rows are the paper's; the files of early LyCORIS hold one length per input, as (1, in, 1, 1).
    """
    by_input = not by_output and lengths.dim() > 1 and lengths.shape[0] == 1 and lengths.shape[1] == merged.shape[1]
    axis = 1 if by_input else 0
    shape = [1] * merged.dim()
    shape[axis] = -1
    norm: torch.Tensor = torch.linalg.vector_norm(
        merged, dim=[n for n in range(merged.dim()) if n != axis], keepdim=True
    )
    return merged / norm.clamp(min=torch.finfo(torch.float32).tiny) * lengths.reshape(shape)


DETECT: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"up", "down"}), "lora"),
    (frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}), "loha"),
    (frozenset({"lokr_w1", "lokr_w2"}), "lokr"),
    (frozenset({"lokr_w1", "lokr_w2_a", "lokr_w2_b"}), "lokr"),
    (frozenset({"lokr_w1_a", "lokr_w1_b", "lokr_w2"}), "lokr"),
    (frozenset({"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"}), "lokr"),
    (frozenset({"a1", "a2", "b1", "b2"}), "glora"),
    (frozenset({"ia3", "on_input"}), "ia3"),
    (frozenset({"oft"}), "oft"),
    (frozenset({"oft_turned"}), "oft"),
    (frozenset({"diff"}), "full"),
    (frozenset({"w_norm"}), "norm"),
    (frozenset({"diff_b"}), "bias"),
    (frozenset({"b_norm"}), "bias"),
)
"""What tensors make a layer of what kind; the first that fits counts."""

KINDS: Mapping[str, Change] = {
    **{"lora": _lora, "loha": _loha, "lokr": _lokr, "glora": _glora},
    **{"ia3": _ia3, "oft": _oft, "full": _full, "norm": _norm},
}

RANKS = {"lora": ("down",), "loha": ("hada_w1_b",), "lokr": ("lokr_w1_b", "lokr_w2_b"), "glora": ("b2",)}
"""Whose first axis is the rank. The other kinds have none, and their alpha is no factor."""
