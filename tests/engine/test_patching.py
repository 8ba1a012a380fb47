"""Adapters in place against networks with the changed weights written in, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.engine.calls import Adapter
from danqing.engine.patching import Patcher, active_in
from danqing.errors import DanqingError

from ..adapters.support import C, SmallModel, close, lora, make_unet, normal, predict, read, with_weights, write

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
K2 = "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k"
FF = "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"
PROJ = "down_blocks.0.attentions.1.proj_in"
CONV = "down_blocks.1.resnets.0.conv1"
DOWN = "down_blocks.0.downsamplers.0.conv"
NORM = "up_blocks.0.resnets.1.norm2"
MODULES = (Q, K2, FF, PROJ, CONV, DOWN)


@pytest.fixture(scope="module")
def model() -> SmallModel:
    return SmallModel()


def shape_of(model: SmallModel, module: str) -> tuple[int, ...]:
    return tuple(model.unet.get_parameter(module + ".weight").shape)


def kohya(module: str) -> str:
    return "lora_unet_" + module.replace(".", "_")


def lora_tensors(model: SmallModel, rank: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    found = {}
    for n, module in enumerate(MODULES):
        outputs, *inputs = shape_of(model, module)
        up = (outputs, rank, 1, 1) if len(inputs) == 3 else (outputs, rank)
        found[kohya(module) + ".lora_down.weight"] = normal(rank, *inputs, seed=seed + 2 * n)
        found[kohya(module) + ".lora_up.weight"] = normal(*up, seed=seed + 2 * n + 1)
        found[kohya(module) + ".alpha"] = torch.tensor(2.0)
    return found


def merged(
    model: SmallModel, tensors: dict[str, torch.Tensor], strength: float, rank: int = 4
) -> dict[str, torch.Tensor]:
    """The weights with each LoRA written in, worked out here."""
    found = {}
    for module in MODULES:
        weight = model.unet.get_parameter(module + ".weight")
        down, up = (tensors[f"{kohya(module)}.lora_{word}.weight"].flatten(1) for word in ("down", "up"))
        found[module + ".weight"] = weight + (up @ down).reshape(weight.shape) * (2.0 / rank) * strength
    return found


def answer(patcher: Patcher, model: SmallModel, *adapters: Adapter) -> torch.Tensor:
    with patcher.patched(model, adapters, "unet"):  # type: ignore[arg-type]
        return predict(model.unet)


def test_a_lora_acts_as_merged_weights_and_leaves_nothing(model: SmallModel, tmp_path: Path) -> None:
    before = predict(model.unet)
    state = {name: (id(p), p.clone()) for name, p in model.unet.named_parameters()}
    tensors = lora_tensors(model)
    path = write(tmp_path / "a.safetensors", tensors)
    patcher = Patcher()
    with_it = answer(patcher, model, lora(path, unet=0.7))
    assert close(with_it, predict(with_weights(model.unet, merged(model, tensors, 0.7))))
    assert not close(with_it, before, 1e-3)
    assert torch.equal(predict(model.unet), before)
    for name, parameter in model.unet.named_parameters():
        assert (id(parameter), True) == (state[name][0], torch.equal(parameter, state[name][1]))
    assert not any("forward" in module.__dict__ for module in model.unet.modules())
    assert torch.equal(answer(patcher, model, lora(path, unet=0.7)), with_it)


def test_several_add_up_and_strengths_are_their_own(model: SmallModel, tmp_path: Path) -> None:
    one, two = lora_tensors(model), lora_tensors(model, rank=2, seed=50)
    paths = write(tmp_path / "one.safetensors", one), write(tmp_path / "two.safetensors", two)
    both = {
        name: weight + merged(model, two, -0.4, 2)[name] - model.unet.get_parameter(name)
        for name, weight in merged(model, one, 1.2).items()
    }
    found = answer(Patcher(), model, lora(paths[0], unet=1.2), lora(paths[1], unet=-0.4))
    assert close(found, predict(with_weights(model.unet, both)))


def test_half_precision_copies_are_not_needed(tmp_path: Path) -> None:
    """A file in float16 on a network in float32 keeps every digit it has."""
    model = SmallModel()
    tensors = {name: value.half() if value.dim() else value for name, value in lora_tensors(model).items()}
    path = write(tmp_path / "half.safetensors", tensors)
    wide = {name: value.float() for name, value in tensors.items()}
    assert close(answer(Patcher(), model, lora(path)), predict(with_weights(model.unet, merged(model, wide, 1.0))))


def test_a_network_in_bfloat16(tmp_path: Path) -> None:
    model = SmallModel()
    tensors = lora_tensors(model)
    path = write(tmp_path / "a.safetensors", tensors)
    weights = merged(model, tensors, 1.0)
    exact = predict(with_weights(model.unet, weights))
    model.unet.to(torch.bfloat16)
    with Patcher().patched(model, (lora(path),), "unet"), torch.autocast("cpu", torch.bfloat16):  # type: ignore[arg-type]
        found = predict(model.unet)
    assert close(found.float(), exact, 0.05)


def other_kinds(model: SmallModel) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A file of kinds that are no low-rank additions, and the parameters as they make them at strength 0.5."""
    get = model.unet.get_parameter
    w = {module: get(module + ".weight").double() for module in (Q, FF, CONV, NORM, K2)}
    diff = normal(*w[CONV].shape, seed=1)
    a1, b1, a2, b2 = (
        normal(w[FF].shape[0], 3),
        normal(3, w[FF].shape[1]),
        normal(w[FF].shape[0], 3, seed=2),
        normal(3, w[FF].shape[1], seed=3),
    )
    gate = normal(w[Q].shape[0], seed=4)
    down, up = normal(2, w[K2].shape[1], seed=5), normal(w[K2].shape[0], 2, seed=6)
    lengths = normal(w[K2].shape[0], 1, seed=7).abs()
    file = {
        kohya(CONV) + ".diff": diff,
        kohya(CONV) + ".diff_b": normal(w[CONV].shape[0], seed=8),
        **{
            kohya(FF) + f".hada_{name}": value
            for name, value in (("w1_a", a1), ("w1_b", b1), ("w2_a", a2), ("w2_b", b2))
        },
        kohya(Q) + ".weight": gate,
        kohya(Q) + ".on_input": torch.tensor(False),
        kohya(K2) + ".lora_down.weight": down,
        kohya(K2) + ".lora_up.weight": up,
        kohya(K2) + ".dora_scale": lengths,
        kohya(NORM) + ".w_norm": normal(w[NORM].shape[0], seed=9),
        kohya(NORM) + ".b_norm": normal(w[NORM].shape[0], seed=10),
    }
    long = w[K2] + up.double() @ down.double()
    decomposed = long / long.norm(dim=1, keepdim=True) * lengths.double()
    weights = {
        CONV + ".weight": w[CONV] + 0.5 * diff,
        CONV + ".bias": get(CONV + ".bias") + 0.5 * file[kohya(CONV) + ".diff_b"],
        FF + ".weight": w[FF] + 0.5 * (a1 @ b1).double() * (a2 @ b2).double(),
        Q + ".weight": w[Q] * (1 + 0.5 * gate.double())[:, None],
        K2 + ".weight": w[K2] + 0.5 * (decomposed - w[K2]),
        NORM + ".weight": w[NORM] + 0.5 * file[kohya(NORM) + ".w_norm"],
        NORM + ".bias": get(NORM + ".bias") + 0.5 * file[kohya(NORM) + ".b_norm"],
    }
    return file, weights


@pytest.mark.parametrize("most", [2**30, 0], ids=["kept", "made anew each time"])
def test_kinds_that_replace_weights(model: SmallModel, tmp_path: Path, most: int) -> None:
    before = predict(model.unet)
    file, weights = other_kinds(model)
    path = write(tmp_path / "other.safetensors", file)
    patcher = Patcher(most)
    expected = predict(with_weights(model.unet, weights))
    for _ in range(2):
        assert close(answer(patcher, model, lora(path, unet=0.5)), expected)
    assert torch.equal(predict(model.unet), before)
    assert not any("forward" in module.__dict__ for module in model.unet.modules())


def test_a_lora_of_a_plain_model_on_an_inpainting_one(tmp_path: Path) -> None:
    """The first convolution sees nine channels and the LoRA four: those are the latent's, and the others stay."""
    unet = make_unet()
    plain = unet.conv_in.weight
    unet.conv_in = torch.nn.Conv2d(9, plain.shape[0], 3, padding=1).requires_grad_(False)
    model, x = SmallModel(unet=unet), normal(1, 9, 8, 8, seed=5)
    down, up, core = normal(2, 4, 3, 3), normal(32, 2, 1, 1, seed=1), normal(2, 2, 3, 3, seed=2)
    thin = normal(2, 4, 1, 1, seed=3)
    name = "lora_unet_conv_in"
    cases = {
        "low rank": (
            {"lora_down.weight": down, "lora_up.weight": up},
            torch.einsum("or,rikl->oikl", up[..., 0, 0], down),
        ),
        "with a core": (
            {"lora_down.weight": thin, "lora_up.weight": up, "lora_mid.weight": core},
            torch.einsum("or,rskl,si->oikl", up[..., 0, 0], core, thin[..., 0, 0]),
        ),
        "whole": ({"diff": normal(32, 4, 3, 3)}, normal(32, 4, 3, 3)),
    }
    for what, (tensors, added) in cases.items():
        path = write(tmp_path / f"{what}.safetensors", {f"{name}.{key}": value for key, value in tensors.items()})
        weight = unet.conv_in.weight.clone()
        weight[:, :4] += 0.5 * added
        expected = torch.nn.functional.conv2d(x, weight, unet.conv_in.bias, padding=1)
        with Patcher().patched(model, (lora(path, unet=0.5),), "unet"):  # type: ignore[arg-type]
            assert close(unet.conv_in(x), expected), what


def test_order_counts_where_one_replaces_what_another_added(model: SmallModel, tmp_path: Path) -> None:
    """IA3 after a LoRA scales the LoRA's part too."""
    down, up = normal(2, 32, seed=1), normal(32, 2, seed=2)
    gate = normal(32, seed=3)
    first = write(tmp_path / "l.safetensors", {kohya(Q) + ".lora_down.weight": down, kohya(Q) + ".lora_up.weight": up})
    second = write(
        tmp_path / "i.safetensors", {kohya(Q) + ".weight": gate, kohya(Q) + ".on_input": torch.tensor(False)}
    )
    weight = model.unet.get_parameter(Q + ".weight")
    lora_then_ia3 = (weight + up @ down) * (1 + gate[:, None])
    ia3_then_lora = weight * (1 + gate[:, None]) + up @ down
    for files, expected in (((first, second), lora_then_ia3), ((second, first), ia3_then_lora)):
        found = answer(Patcher(), model, *map(lora, files))
        assert close(found, predict(with_weights(model.unet, {Q + ".weight": expected})))


def test_the_text_part_has_its_own_strength(model: SmallModel, tmp_path: Path) -> None:
    module = "encoder.layers.1.mlp.fc1"
    weight = model.text.get_parameter(module + ".weight")
    down, up = normal(2, weight.shape[1]), normal(weight.shape[0], 2, seed=1)
    stem = "lora_te_text_model_encoder_layers_1_mlp_fc1"
    tensors = {stem + ".lora_down.weight": down, stem + ".lora_up.weight": up, **lora_tensors(model)}
    adapter = lora(write(tmp_path / "t.safetensors", tensors), text=0.3, unet=0.9)
    before = read(model.text)
    with Patcher().patched(model, (adapter,), "text"):  # type: ignore[arg-type]
        found = read(model.text)
    assert close(found, read(with_weights(model.text, {module + ".weight": weight + 0.3 * up @ down})))
    assert torch.equal(read(model.text), before)


def test_equal_work_has_equal_keys(tmp_path: Path) -> None:
    path = tmp_path / "x"
    one, two = Adapter("lora", path, 0.2, 1.0), Adapter("lora", path, 0.8, 1.0)
    assert active_in((one,), "unet") == active_in((two,), "unet")
    assert active_in((one,), "text") != active_in((two,), "text")
    assert active_in((Adapter("hypernet", path, 0.0, 1.0), Adapter("lora", path, 0.0, 1.0)), "text") == ()
    assert active_in((Adapter("lora", path, 1.0, 0.0),), "unet") == ()


def test_a_failure_in_the_forward_leaves_nothing(model: SmallModel, tmp_path: Path) -> None:
    before = predict(model.unet)
    path = write(tmp_path / "o.safetensors", other_kinds(model)[0] | lora_tensors(model))
    with pytest.raises(ZeroDivisionError), Patcher().patched(model, (lora(path),), "unet"):  # type: ignore[arg-type]
        raise ZeroDivisionError
    assert torch.equal(predict(model.unet), before)


WRONG = (
    *("another architecture", "wider", "ranks that differ", "a core for a linear layer"),
    *("a full change of another shape", "a bias of another length", "LoKr of other factors", "LoHa of two shapes"),
    "blocks that do not divide",
)


def wrong_files(model: SmallModel) -> dict[str, dict[str, torch.Tensor]]:
    stem = kohya(Q)
    core = {stem + ".lora_mid.weight": normal(4, 4, 3, 3), stem + ".lora_down.weight": normal(4, 32)}
    return {
        "another architecture": {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": normal(4, 32)}
        | {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": normal(32, 4)},
        "wider": {stem + ".lora_down.weight": normal(4, 64), stem + ".lora_up.weight": normal(32, 4)},
        "ranks that differ": {stem + ".lora_down.weight": normal(4, 32), stem + ".lora_up.weight": normal(32, 5)},
        "a core for a linear layer": {**core, stem + ".lora_up.weight": normal(32, 4)},
        "a full change of another shape": {stem + ".diff": normal(16, 32)},
        "a bias of another length": {stem + ".diff": normal(32, 32), stem + ".diff_b": normal(7)},
        "LoKr of other factors": {stem + ".lokr_w1": normal(3, 3), stem + ".lokr_w2": normal(5, 5)},
        "LoHa of two shapes": {stem + f".hada_w{i}_a": normal(32, 2) for i in (1, 2)}
        | {stem + f".hada_w{i}_b": normal(2, 30 + i) for i in (1, 2)},
        "blocks that do not divide": {stem + ".oft_blocks": normal(5, 7, 7)},
    }


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_named(model: SmallModel, tmp_path: Path, what: str) -> None:
    before = predict(model.unet)
    path = write(tmp_path / "wrong.safetensors", wrong_files(model)[what])
    with pytest.raises(DanqingError) as caught:
        answer(Patcher(), model, lora(path))
    assert caught.value.code == "adapter_misfit"
    assert caught.value.params["name"] == "wrong.safetensors"
    assert caught.value.params["model"] == "small"
    assert torch.equal(predict(model.unet), before)


def test_what_is_kept_is_bounded_and_a_replaced_file_is_another(model: SmallModel, tmp_path: Path) -> None:
    file, _ = other_kinds(model)
    paths = [
        write(tmp_path / f"{n}.safetensors", {k: v * (1 if k.endswith("on_input") else n) for k, v in file.items()})
        for n in (1, 2, 3)
    ]
    patcher = Patcher()
    answer(patcher, model, lora(paths[0]))
    (first,) = patcher._kept.values()
    small = Patcher(most=int(first.bytes * 1.5))
    answers = [answer(small, model, lora(path)) for path in paths]
    assert len(small._kept) == 1
    assert torch.equal(answer(small, model, lora(paths[0])), answers[0])
    old = answer(patcher, model, lora(paths[0]))
    adapter = lora(paths[0])
    write(paths[0], {k: v * 0 for k, v in file.items() if "on_input" in k or k.endswith(".weight")})
    changed = Adapter(adapter.kind, adapter.path, 1.0, 1.0, adapter.stamp + 1)
    assert not torch.equal(answer(patcher, model, changed), old)


def test_a_model_that_leaves_memory_is_not_held(tmp_path: Path) -> None:
    model = SmallModel()
    path = write(tmp_path / "a.safetensors", lora_tensors(model))
    patcher = Patcher()
    answer(patcher, model, lora(path))
    gone = weakref.ref(model.unet)
    del model
    gc.collect()
    assert gone() is None
    assert not patcher._kept


def hypernet(
    width: int, structure: tuple[float, ...], norm: bool = False, seed: int = 0
) -> list[dict[str, torch.Tensor]]:
    """Keys' and values' state as the WebUI's module lists number them: activation and norm take numbers too."""
    states = []
    for which in range(2):
        state: dict[str, torch.Tensor] = {}
        number = 0
        for n, (a, b) in enumerate(itertools.pairwise(structure)):
            shape = (int(width * b), int(width * a))
            state[f"linear.{number}.weight"] = normal(*shape, seed=seed + 10 * which + n, scale=0.2)
            state[f"linear.{number}.bias"] = normal(shape[0], seed=seed + 10 * which + n + 5)
            number += 2  # the activation's own number
            if norm:
                state[f"linear.{number}.weight"] = 1 + normal(shape[0], seed=seed + 20 + n)
                state[f"linear.{number}.bias"] = normal(shape[0], seed=seed + 30 + n)
                number += 1
        states.append(state)
    return states


def small_network(state: dict[str, torch.Tensor], activation: Any, at_end: bool) -> Any:
    """The same network from torch's own modules."""
    steps: list[Any] = []
    linear = [k for k in sorted({int(k.split(".")[1]) for k in state}) if state[f"linear.{k}.weight"].dim() == 2]
    for k in sorted({int(k.split(".")[1]) for k in state}):
        weight, bias = state[f"linear.{k}.weight"], state[f"linear.{k}.bias"]
        if k in linear:
            layer: Any = torch.nn.Linear(weight.shape[1], weight.shape[0])
            steps += [layer] + ([activation()] if k != linear[-1] or at_end else [])
        else:
            layer = torch.nn.LayerNorm(weight.shape[0])
            steps.append(layer)
        layer.weight.data, layer.bias.data = weight, bias
    return torch.nn.Sequential(*steps)


SHAPES: list[tuple[tuple[float, ...], str, Any, bool, bool]] = [
    ((1, 2, 1), "linear", torch.nn.Identity, False, False),
    ((1, 2, 2, 1), "relu", torch.nn.ReLU, False, False),
    ((1, 1.5, 1.5, 1), "swish", torch.nn.Hardswish, True, True),
    ((1, 0.5, 1), "mish", torch.nn.Mish, False, True),
    ((1, 4, 2, 1), "softsign", torch.nn.Softsign, True, False),
]


@pytest.mark.parametrize(("structure", "name", "activation", "norm", "at_end"), SHAPES)
def test_a_hypernetwork_changes_keys_and_values(
    model: SmallModel, tmp_path: Path, structure: Any, name: str, activation: Any, norm: bool, at_end: bool
) -> None:
    """Against hooks on every attention layer: 32 is the width of the UNet's level, 24 the text's."""
    states = {width: hypernet(width, structure, norm, seed=width) for width in (32, 24, 768)}
    path = tmp_path / "h.pt"
    more = {
        "layer_structure": list(structure),
        "activation_func": name,
        "is_layer_norm": norm,
        "activate_output": at_end,
    }
    torch.save({**states, **more, "use_dropout": True, "name": "h", "step": 7}, path)
    before = predict(model.unet)
    networks = {w: [small_network(state, activation, at_end) for state in pair] for w, pair in states.items()}
    hooks = []
    for module in model.unet.modules():
        if hasattr(module, "to_k"):
            for projection, which in ((module.to_k, 0), (module.to_v, 1)):
                if projection.in_features in networks:
                    network = networks[projection.in_features][which]
                    hooks.append(
                        projection.register_forward_pre_hook(lambda _m, args, n=network: (args[0] + 0.6 * n(args[0]),))
                    )
    expected = predict(model.unet)
    for hook in hooks:
        hook.remove()
    assert len(hooks) == 2 * 2 * 5 + 2  # five attending layers of width 32, the middle's text attention
    adapter = Adapter("hypernet", path, 0.0, 0.6, path.stat().st_mtime_ns)
    assert close(answer(Patcher(), model, adapter), expected)
    assert not close(expected, before, 1e-3)
    assert torch.equal(predict(model.unet), before)


def test_a_hypernetwork_with_a_lora_and_another(model: SmallModel, tmp_path: Path) -> None:
    states = {24: hypernet(24, (1, 2, 1))}
    path = tmp_path / "h.pt"
    torch.save({**states, "activation_func": "relu", "activate_output": False}, path)
    adapter = Adapter("hypernet", path, 0.0, 1.0, 1)
    tensors = lora_tensors(model)
    other = lora(write(tmp_path / "a.safetensors", tensors))
    merged_unet = SmallModel(unet=with_weights(model.unet, merged(model, tensors, 1.0)))
    expected = answer(Patcher(), merged_unet, adapter, adapter)
    assert close(answer(Patcher(), model, adapter, other, adapter), expected)
    assert C.shape[-1] == 24


def test_of_two_hypernetworks_the_first_comes_first(model: SmallModel, tmp_path: Path) -> None:
    """Against hooks: the second one is given what the first one made."""
    states = [hypernet(24, (1, 2, 1), seed=seed) for seed in (1, 50)]
    adapters = []
    for name, state in zip("ab", states, strict=True):
        torch.save({24: state, "activation_func": "relu", "activate_output": False}, tmp_path / f"{name}.pt")
        adapters.append(Adapter("hypernet", tmp_path / f"{name}.pt", 0.0, 0.7, 1))
    networks = [[small_network(part, torch.nn.ReLU, False) for part in state] for state in states]
    hooks = []
    for module in model.unet.modules():
        if hasattr(module, "to_k") and module.to_k.in_features == 24:
            # Hooks run in the order in which they were hung up.
            for pair in networks:
                for projection, network in zip((module.to_k, module.to_v), pair, strict=True):
                    hooks.append(
                        projection.register_forward_pre_hook(lambda _m, args, n=network: (args[0] + 0.7 * n(args[0]),))
                    )
    expected = predict(model.unet)
    for hook in hooks:
        hook.remove()
    assert close(answer(Patcher(), model, *adapters), expected)
    assert not close(answer(Patcher(), model, *reversed(adapters)), expected, 1e-3)


def test_a_hypernetwork_of_other_widths_is_named(model: SmallModel, tmp_path: Path) -> None:
    path = tmp_path / "h.pt"
    torch.save({768: hypernet(768, (1, 0.1, 1))}, path)
    with pytest.raises(DanqingError) as caught:
        answer(Patcher(), model, Adapter("hypernet", path, 0.0, 1.0, 1))
    assert caught.value.code == "adapter_misfit"
    assert "768" in str(caught.value.params["reason"])
