"""Reference-only: what each layer does against its formula, what weight and fidelity leave alone, and company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine import unet
from danqing.engine.calls import Row
from danqing.engine.models import Model
from danqing.engine.reference import ReferenceHint, levels, self_attentions
from danqing.gallery import inputs
from danqing.request import ControlUnit, GenerateRequest
from tests.parity.fixture import make

from .conftest import Bench
from .peers import BASE, apart, model_of, photograph

CPU = torch.device("cpu")
T = 500.0
KINDS = ("reference_only", "reference_adain", "reference_adain+attn")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(make(tmp_path_factory.mktemp("reference")), engine_gain=10.0)


@pytest.fixture(scope="module")
def model(bench: Bench) -> Model:
    return model_of(bench)


def hint(kind: str = "reference_only", fidelity: float = 0.5, weight: float = 1.0) -> ReferenceHint:
    latent = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))
    return ReferenceHint(latent, kind != "reference_adain", "adain" in kind, fidelity, 5, (weight,))


def rows(model: Model, *hints: ReferenceHint | None) -> list[Row]:
    """Rows of one latent and one text, the second of each pair on the negative prompt's side."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, 16, 16, generator=generator)
    context = torch.randn(77, model.unet.config.cross_attention_dim, generator=generator)
    return [
        Row(x, T, context, None, () if one is None else (one.sided(3, unconditional=side),))
        for one in hints
        for side in (False, True)
    ]


@torch.no_grad()
def said(model: Model, asked: list[Row]) -> torch.Tensor:
    return unet.eager(unet.batch_of(model, asked, CPU))


def noised(one: ReferenceHint, model: Model) -> torch.Tensor:
    """The reference at timestep T: sqrt(abar) latent + sqrt(1 - abar) noise, (1, 4, h, w)."""
    abar = model.sigmas.alphas_cumprod[int(T)]
    return (abar.sqrt() * one.latent + (1 - abar).sqrt() * one.sided(3, unconditional=False).noise())[None]


class Listener:
    """What goes into and comes out of a module, by hooks."""

    def __init__(self, module: Any) -> None:
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        self._hook = module.register_forward_hook(self._hear, with_kwargs=True)

    def _hear(self, _: Any, args: Any, kwargs: Any, out: Any) -> None:
        self.inputs.append(args[0] if args else kwargs["hidden_states"])
        self.outputs.append(out[0] if isinstance(out, tuple) else out)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def attended(attn: Any, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """softmax(Q K' / sqrt(d)) V by hand: x (1, n, c) asks, seen (1, m, c) answers."""
    heads = [one[0].unflatten(1, (attn.heads, -1)) for one in (attn.to_q(x), attn.to_k(seen), attn.to_v(seen))]
    scores = torch.einsum("nhd,mhd->hnm", heads[0], heads[1]) / heads[0].shape[-1] ** 0.5
    joined = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), heads[2]).flatten(1)
    return attn.to_out[0](joined)[None]


@torch.no_grad()
def test_self_attention_sees_the_reference_s_tokens(model: Model) -> None:
    """attn(x, [x, r]) on the prompt's side; on the other f attn(x, x) + (1 - f) attn(x, [x, r])."""
    one, (_, attn) = hint(fidelity=0.3), self_attentions(model.unet)[0]
    asked = rows(model, one)
    with Listener(attn) as heard:
        context = asked[0].context[None]
        model.unet(noised(one, model), T, encoder_hidden_states=context, return_dict=False)
        said(model, asked)
    bank, x, out = heard.inputs[0], heard.inputs[2], heard.outputs[2]
    with_reference = [attended(attn, x[i : i + 1], torch.cat([x[i : i + 1], bank], 1)) for i in (0, 1)]
    plain = attended(attn, x[1:], x[1:])
    assert apart(out[:1], with_reference[0]) < 1e-4
    assert apart(out[1:], 0.3 * plain + 0.7 * with_reference[1]) < 1e-4
    assert apart(out[:1], attended(attn, x[:1], x[:1])) > 1e-3


@torch.no_grad()
def test_a_level_gets_the_reference_s_mean_and_deviation(model: Model) -> None:
    one = hint("reference_adain", fidelity=0.0)
    asked, first = rows(model, one), model.unet.up_blocks[0]
    with Listener(model.unet.mid_block) as middle, Listener(first) as after:
        context = asked[0].context[None]
        model.unet(noised(one, model), T, encoder_hidden_states=context, return_dict=False)
        said(model, asked)
    reference, aligned = middle.outputs[0], after.inputs[2]
    assert torch.allclose(aligned.mean((2, 3))[:1], reference.mean((2, 3)), atol=1e-3)
    spreads = [x.std((2, 3), correction=0) for x in (aligned[:1], reference)]
    assert torch.allclose(*spreads, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_fidelity_and_weight_leave_alone(model: Model, kind: str) -> None:
    """Of fidelity 1 the negative prompt's side is as without; of weight 0 both are; more weight reaches more layers."""
    plain = said(model, rows(model, None))
    faithful = said(model, rows(model, hint(kind, fidelity=1.0)))
    assert apart(faithful[1], plain[1]) < 1e-6
    assert apart(faithful[0], plain[0]) > 1e-3
    assert apart(said(model, rows(model, hint(kind, weight=0.0))), plain) < 1e-6
    half, whole = (said(model, rows(model, hint(kind, 0.0, weight))) for weight in (0.4, 1.0))
    assert apart(half, plain) > 1e-4
    assert apart(half, whole) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_what_it_is_alone(model: Model, kind: str) -> None:
    first, second = hint(kind, 0.2), hint(kind, 0.9, 0.5)
    alone = torch.cat([said(model, rows(model, first)), said(model, rows(model, second))])
    assert apart(said(model, rows(model, first, second)), alone) < 1e-5


def test_nothing_is_left_behind(model: Model) -> None:
    before = said(model, rows(model, None))
    said(model, rows(model, hint("reference_adain+attn")))
    assert torch.equal(said(model, rows(model, None)), before)
    touched = [module for _, module in (*self_attentions(model.unet), *levels(model.unet))]
    assert not any("forward" in module.__dict__ or module._forward_hooks for module in touched)


def unit(bench: Bench, kind: str, seed: int, **fields: object) -> ControlUnit:
    picture = inputs.keep_image(bench.workshop.studio.data, photograph(seed))
    return ControlUnit(**{"module": kind, "image": picture, **fields})


def test_requests_in_company(bench: Bench) -> None:
    """Through the engine: alone and together the same; reference and ControlNet at once; batches see the reference."""
    control = "control_tiny11_sd15_canny"
    requests: dict[str, GenerateRequest] = {
        name: BASE.model_copy(update={"control": units, "seed": seed, "batch_size": size, "steps": 2})
        for name, units, seed, size in (
            ("plain", (), 42, 1),
            ("only", (unit(bench, KINDS[0], 0),), 42, 1),
            ("weak", (unit(bench, KINDS[0], 1, weight=0.5, threshold_a=0.9),), 7, 2),
            ("adain", (unit(bench, KINDS[1], 1, control_mode="My prompt is more important"),), 8, 1),
            ("both", (unit(bench, KINDS[2], 0), unit(bench, "none", 1, model=control)), 9, 1),
        )
    }
    alone = {name: bench.draw(**{name: one})[name] for name, one in requests.items()}
    bench.forwards.clear()
    together = bench.draw(**requests)
    for name in requests:
        assert alone[name].error is None, alone[name].error
        for index, picture in alone[name].images.items():
            gap = np.abs(picture.astype(int) - together[name].images[index].astype(int)).max()
            assert gap <= 1, (name, index)
    assert (alone["only"].images[0] != alone["plain"].images[0]).any()
    assert any({"only", "weak"} <= owners for _, _, owners in bench.forwards)
