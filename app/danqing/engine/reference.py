"""Reference-only: a picture's own features, made by the model itself, lend their style; no network besides.

The formulas are in docs/control.md. At every call the reference, noised to the call's level, goes through the UNet first. What
its self-attentions see ("attn") and the mean and deviation of its levels ("adain", Huang and Belongie 2017,
https://arxiv.org/abs/1703.06868) are kept and used in the picture's own forward.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from danqing.engine.control_rows import Aid, Step

SMALLEST = 1e-6
"""Of a variance."""

SEED_STEP = 1_000_003
"""Between the seeds of neighbouring calls' noise."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceHint:
    """What one unit shows one row.

    latent: (4, h, w), scaled. fidelity: 0..1, how much of the negative prompt's side is left without the reference.
    weights: one; layers with a place above it are left alone.
    """

    latent: torch.Tensor
    attends: bool
    adain: bool
    fidelity: float
    seed: int
    weights: tuple[float, ...]
    call: int = 0
    unconditional: bool = False

    @property
    def key(self) -> Hashable:
        return "reference", self.attends, self.adain

    def weighted(self, weights: tuple[float, ...]) -> ReferenceHint:
        """The same picture with another weight."""
        return replace(self, weights=weights)

    def sided(self, call: int, *, unconditional: bool) -> ReferenceHint:
        """Every call has noise of its own."""
        return replace(self, call=call, unconditional=unconditional)

    def noise(self) -> torch.Tensor:
        """(4, h, w) float32, the same for both sides of a picture's call."""
        generator = torch.Generator().manual_seed((self.seed + SEED_STEP * self.call) % 2**63)
        return torch.randn(self.latent.shape, generator=generator)

    def join(self, hints: Sequence[ReferenceHint], step: Step, aid: Aid) -> None:
        """Noise the rows' references to their levels."""
        sigma = step.model.sigmas.to_sigma(step.t.float().cpu())[:, None, None, None]
        clean, noise = (torch.stack(rows) for rows in ([h.latent for h in hints], [h.noise() for h in hints]))
        x = ((clean + sigma * noise) / (sigma**2 + 1).sqrt()).to(step.x.device, step.x.dtype)
        # What a model of more than four channels sees besides is the picture's own.
        whole = torch.cat([x, step.x[:, x.shape[1] :]], dim=1)
        plain = [h.fidelity if h.unconditional else 0.0 for h in hints]
        aid.references.append(References(whole, self.attends, self.adain, plain, [h.weights[0] for h in hints]))


@dataclass(slots=True)
class References:
    """Of all rows: noised references (rows, C, h, w); the share of each row that stays plain, and its weight.

    `banks`: what the references' own forward left at each place.
    """

    x: torch.Tensor
    attends: bool
    adain: bool
    plain: list[float]
    weights: list[float]
    banks: dict[Any, Any] = field(default_factory=dict)

    def shares(self, place: float, like: torch.Tensor) -> torch.Tensor:
        """(rows, 1, ...) as many dimensions as `like`: how much of each row stays as it is at this place."""
        rows = [p if w > 0 and w >= place else 1.0 for p, w in zip(self.plain, self.weights, strict=True)]
        return torch.tensor(rows, device=like.device, dtype=like.dtype).view(-1, *[1] * (like.ndim - 1))


@contextmanager
def referring(step: Step, references: Sequence[References]) -> Iterator[None]:
    """Within the context the UNet goes by its rows' references, which have gone through it first."""
    unet = step.model.unet
    for one in references:
        with ExitStack() as stack:
            _listen(unet, one, stack)
            unet(
                one.x,
                step.t,
                encoder_hidden_states=step.context,
                added_cond_kwargs=step.added,
                return_dict=False,
            )
    with ExitStack() as stack:
        for one in references:
            _speak(unet, one, stack)
        yield


def self_attentions(unet: Any) -> list[tuple[float, Any]]:
    """Every self-attention with its place in 0..1, the widest first."""
    found = [m for name, m in unet.named_modules() if name.endswith(".attn1")]
    found.sort(key=lambda module: -module.to_q.in_features)
    return [(number / len(found), module) for number, module in enumerate(found)]


def levels(unet: Any) -> list[tuple[float, Any]]:
    """What of the UNet has its means and deviations aligned, with its place in 0..1: the middle, then from the inside out.

    Of a level every attention, or every residual block where there is none.
    """
    found = [(0.0, unet.mid_block)]
    down, up = unet.down_blocks, unet.up_blocks
    for number, block in enumerate(down):
        found += [(1 - number / len(down), module) for module in _layers(block)]
    for number, block in enumerate(up):
        found += [(number / len(up), module) for module in _layers(block)]
    return found


def _layers(block: Any) -> Sequence[Any]:
    attentions: Sequence[Any] = getattr(block, "attentions", ())
    return attentions or block.resnets


def _listen(unet: Any, to: References, stack: ExitStack) -> None:
    """Keep what the forward of the references leaves at each place."""

    def attention(module: Any) -> Callable[..., Any]:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            to.banks[module] = args[0] if args else kwargs["hidden_states"]

        return hook

    def level(module: Any) -> Callable[..., Any]:
        def hook(_: Any, __: Any, out: Any) -> None:
            to.banks[module] = torch.var_mean(_first(out), dim=(2, 3), keepdim=True, correction=0)

        return hook

    for _, module in self_attentions(unet) if to.attends else ():
        stack.callback(module.register_forward_pre_hook(attention(module), with_kwargs=True).remove)
    for _, module in levels(unet) if to.adain else ():
        stack.callback(module.register_forward_hook(level(module)).remove)


def _speak(unet: Any, of: References, stack: ExitStack) -> None:
    """Put what was kept to use."""
    for place, module in self_attentions(unet) if of.attends else ():
        stack.callback(_attend(module, of, place))
    for place, module in levels(unet) if of.adain else ():
        stack.callback(module.register_forward_hook(_aligned(of, module, place)).remove)


def _attend(module: Any, of: References, place: float) -> Callable[[], None]:
    """Let the self-attention see the reference's tokens behind its own; what is returned takes that away."""
    before = module.__dict__.get("forward")
    own = module.forward

    def forward(hidden_states: torch.Tensor, encoder_hidden_states: Any = None, **more: Any) -> torch.Tensor:
        shares = of.shares(place, hidden_states)
        plain: torch.Tensor = own(hidden_states, encoder_hidden_states=encoder_hidden_states, **more)
        if bool((shares == 1).all()):
            return plain
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        with_reference = own(hidden_states, encoder_hidden_states=torch.cat([seen, of.banks[module]], dim=1), **more)
        return torch.where(shares == 1, plain, shares * plain + (1 - shares) * with_reference)

    def remove() -> None:
        module.__dict__.pop("forward", None)
        if before is not None:
            module.__dict__["forward"] = before

    module.__dict__["forward"] = forward
    return remove


def _aligned(of: References, module: Any, place: float) -> Callable[..., Any]:
    """The layer's output brought to the mean and deviation of the reference's."""

    def hook(_: Any, __: Any, out: Any) -> Any:
        x = _first(out)
        shares = of.shares(place, x)
        variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
        wanted, middle = of.banks[module]
        moved = (x - mean) / variance.clamp(min=SMALLEST).sqrt() * wanted.clamp(min=SMALLEST).sqrt() + middle
        found = torch.where(shares == 1, x, shares * x + (1 - shares) * moved)
        return (found, *out[1:]) if isinstance(out, tuple) else found

    return hook


def _first(out: Any) -> torch.Tensor:
    found: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return found
