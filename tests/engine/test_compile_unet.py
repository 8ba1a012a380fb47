"""A UNet as compiled code has it: one artefact for every batch, prompt length and LoRA, with weights that are brought along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from danqing import torchvision_shim as torchvision_shim
from danqing.engine import compile_unet, compile_worker
from danqing.engine.compile import BOUNDS
from danqing.engine.compile_store import PACKAGE, Store, Want
from danqing.engine.compile_unet import RANKS, Compilable, Slots, example, free_dimensions, slots_of
from danqing.engine.compile_worker import compiled_into
from danqing.engine.compiled import open_package


def micro(seed: int = 0, **more: Any) -> Any:
    """One level, one block down and one up, attention in the first."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(seed)
    shape = {"attention_head_dim": 2} | more
    unet = UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        block_out_channels=(16,),
        layers_per_block=1,
        cross_attention_dim=8,
        norm_num_groups=4,
        **shape,
    )
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unet() -> Any:
    return micro()


def test_slots_are_the_transformers_layers(unet: Any) -> None:
    names = [name for name, _ in slots_of(unet)]
    assert len(names) == 12
    assert any(name.endswith("proj_in") for name in names)
    assert any("attn2.to_k" in name for name in names)
    assert not any("conv1" in name or "time_emb" in name for name in names)


def test_a_slot_does_what_the_same_change_of_the_weight_does(unet: Any) -> None:
    inputs = example(unet, "full", 8, 8)
    changed = micro()
    for (_, module), down, up in zip(slots_of(changed), inputs[4], inputs[5], strict=True):
        module.weight.data += (up @ down).reshape(module.weight.shape)
    out, wanted = Compilable(unet)(*inputs), Compilable(changed)(*inputs[:4], [], [], inputs[6])
    assert (out - wanted).abs().max() < 1e-5
    assert (out - Compilable(unet)(*inputs[:4], [], [], inputs[6])).abs().max() > 1e-2
    assert not any("forward" in vars(module) for _, module in slots_of(unet))  # and it leaves nothing behind


def test_low_rank_additions_are_laid_out_over_the_slots(unet: Any) -> None:
    modules = [module for _, module in slots_of(unet)]
    linear = modules[1]
    down, up = torch.randn(5, linear.in_features), torch.randn(linear.out_features, 5)
    laid = Slots(unet).laid_out({linear: (down, None, up, 0.5)})
    assert laid is not None
    assert laid.rank == RANKS
    assert torch.allclose(laid.ups[1] @ laid.downs[1], 0.5 * up @ down, atol=1e-6)
    assert all(not laid.downs[i].any() for i in range(len(modules)) if i != 1)
    conv = unet.conv_in
    assert Slots(unet).laid_out({conv: (torch.randn(4, 36), None, torch.randn(16, 4), 1.0)}) is None


def with_rank(unet: Any, rank: int, rows: int, tokens: int) -> compile_unet.Inputs:
    x, t, context, added, _, _, residuals = example(unet, "full", 8, 8, rows, tokens)
    downs = [torch.randn(rank, module.weight.shape[1]) for _, module in slots_of(unet)]
    ups = [torch.randn(module.weight.shape[0], rank) * 0.01 for _, module in slots_of(unet)]
    return x, t, context, added, downs, ups, residuals


def test_another_lora_is_another_argument_and_no_recompilation(unet: Any) -> None:
    # Dynamo takes numbers that are equal at first for equal always: none of these is any other dimension's.
    inputs = with_rank(unet, 3 * RANKS, 3, 154)
    with torch.no_grad():
        network = torch.export.export(
            Compilable(unet), inputs, dynamic_shapes=free_dimensions(inputs), strict=False
        ).module()
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(network, backend="aot_eager", dynamic=True)
    with torch.inference_mode():
        compiled(*with_rank(unet, 3 * RANKS, 3, 154))
        frames = counters["frames"]["total"], counters["stats"]["unique_graphs"]
        for rank, rows, tokens in ((RANKS, 3, 154), (4 * RANKS, 2, 77), (2 * RANKS, 5, 77)):
            given = with_rank(unet, rank, rows, tokens)
            assert (compiled(*given) - Compilable(unet)(*given)).abs().max() < 1e-4
        assert (counters["frames"]["total"], counters["stats"]["unique_graphs"]) == frames
    assert frames[1] == 1


def test_architectures_are_told_apart(unet: Any) -> None:
    known = compile_unet.architecture_of(unet)
    assert compile_unet.architecture_of(micro(seed=1)) == known  # other numbers, same code
    assert compile_unet.architecture_of(micro(in_channels=9)) != known
    assert compile_unet.architecture_of(micro().half()) != known
    assert compile_unet.architecture_of(micro().to(memory_format=torch.channels_last)) != known
    # The number of heads shows in no tensor.
    assert compile_unet.architecture_of(micro(attention_head_dim=4)) != known


def test_compiled_code_runs_with_another_checkpoints_weights(
    unet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: exported, compiled by g++, published, checked, opened, given the weights of another network."""
    monkeypatch.setattr(compile_worker, "MEASURED_SECONDS", 0.1)
    store = Store([tmp_path], "here")
    want = Want(compile_unet.architecture_of(unet), "full", 8, 8)
    with store.making(want) as half:
        answer = compiled_into(half, unet, want, **{"aot_inductor.compile_wrapper_opt_level": "O0"})
        assert answer["difference"] < BOUNDS["float32"]
        assert answer["gain"] > 0
        assert answer["graphs"] == 0.0  # a CPU has none
        assert (half / PACKAGE).is_file()
        store.publish(half, want, **answer)
    artefact = store.checked(want)
    assert artefact is not None
    package = open_package(artefact)
    other = micro(seed=7)
    constants = compile_unet.constants_of(other, package.get_constant_fqns())
    package.load_constants(constants, check_full_update=True, user_managed=True)
    network = Compilable(other)
    with torch.inference_mode():
        for rows, tokens in ((1, 77), (3, 154)):
            inputs = example(other, "full", 8, 8, rows, tokens)
            assert (package(*inputs) - network(*inputs)).abs().max() < 1e-5
            assert (package(*inputs) - Compilable(unet)(*inputs)).abs().max() > 1e-2
        # In use without LoRA and ControlNet: the slots hold zeros, and so do the residuals.
        laid = Slots(other).laid_out({})
        assert laid is not None
        x, t, context, added, _, _, residuals = example(other, "full", 8, 8)
        nothing = [torch.zeros_like(one) for one in residuals]
        bare = network(x, t, context, added, [], [], [])
        assert (package(x, t, context, added, laid.downs, laid.ups, nothing) - bare).abs().max() < 1e-5
