"""Checkpoints of every architecture, in every kind of file, become the networks that they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from danqing import torchvision_shim as torchvision_shim  # isort: split

from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file

from danqing.engine import building, models
from danqing.engine.models import Model, load, load_vae, measured_prediction
from danqing.errors import DanqingError
from danqing.library.architecture import recognise
from danqing.library.header import Entry, Header
from danqing.library.index import Library
from danqing.library.routes import routes_of
from danqing.library.weights import Piece, Weights

from ..library import layouts
from ..library.layouts import Layout

CPU = torch.device("cpu")
KINDS: dict[str, Layout] = {
    "sd1": layouts.SD1,
    "sd2": layouts.SD2,
    "sdxl": layouts.SDXL,
    "sdxl-refiner": layouts.REFINER,
}


def put(data: Path, name: str, state: dict[str, Any], yaml: str | None) -> Path:
    path = data / "models" / "Stable-diffusion" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    if yaml:
        path.with_suffix(".yaml").write_text(yaml)
    return path


def loaded(data: Path, name: str, dtype: torch.dtype = torch.float32) -> Model:
    library = Library(data)
    return load(library.resolve(name), CPU, dtype, library.sha256_of)


def write(data: Path, layout: Layout, name: str = "m.safetensors", **more: Any) -> dict[str, torch.Tensor]:
    state = layouts.tensors(layout)
    put(data, name, state, layouts.yaml(layout, **more))
    return state


def same(module: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    own = module.state_dict()
    assert {key for key in expected if "position_ids" not in key} == set(own)
    wrong = [key for key, value in own.items() if not torch.equal(value, expected[key].to(value.dtype))]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_is_what_diffusers_makes_of_it(tmp_path: Path, kind: str) -> None:
    layout = KINDS[kind]
    state = write(tmp_path, layout)
    model = loaded(tmp_path, "m")
    assert (model.family, model.in_channels) == (kind, 4)
    same(model.unet, convert_ldm_unet_checkpoint(dict(state), model.unet.config))
    same(model.vae, convert_ldm_vae_checkpoint(dict(state), model.vae.config))
    for text, encoder in zip(model.architecture.texts, model.encoders, strict=True):
        if text.open_clip:
            theirs = convert_open_clip_checkpoint(encoder.module, dict(state), text.prefix)
            inside = "" if text.projection else "text_model."
            theirs = {key.removeprefix(inside): value for key, value in theirs.items()}
            if not text.projection:
                theirs.pop("text_projection.weight", None)
        else:
            theirs = {
                key.removeprefix(text.prefix + "text_model."): v for key, v in state.items() if text.prefix in key
            }
        same(encoder.module, theirs)
    assert [(e.kind, e.pad) for e in model.encoders] == {
        "sd1": [("clip_l", 49407)],
        "sd2": [("open_clip_h", 0)],
        "sdxl": [("clip_l", 49407), ("open_clip_g", 0)],
        "sdxl-refiner": [("open_clip_g", 0)],
    }[kind]
    assert float(model.vae.config.scaling_factor) == (0.13025 if "xl" in kind else 0.18215)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_every_family_runs(tmp_path: Path, kind: str) -> None:
    write(tmp_path, KINDS[kind])
    model = loaded(tmp_path, "m")
    tokens = torch.tensor([[1, 2, 3] + [0] * 74])
    hidden = [encoder.module(input_ids=tokens).last_hidden_state for encoder in model.encoders]
    context = torch.cat(hidden, -1)
    more: dict[str, Any] = {}
    if model.architecture.unet.vector:
        numbers = 5 if kind == "sdxl-refiner" else 6
        vector = torch.cat([torch.randn(1, model.architecture.texts[-1].projection), torch.full((1, numbers), 64.0)], 1)
        more["added_cond_kwargs"] = models.added_conditioning(model, vector)
    out = model.unet(torch.randn(1, 4, 8, 8), torch.tensor([500.0]), encoder_hidden_states=context, **more)[0]
    assert out.shape == (1, 4, 8, 8)
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("kind", layouts.FULL)
def test_full_size_tensors_all_have_their_place(kind: str) -> None:
    """Names and shapes of the real architectures, without numbers."""
    shapes = layouts.shapes(layouts.FULL[kind])
    architecture = recognise(kind, shapes, None)
    assert architecture.family == kind
    header = Header({name: Entry("F16", shape, 0, 0) for name, shape in shapes.items()}, {}, 0)
    weights = Weights((Piece(Path("m"), header),))
    parts = building.meta_parts(architecture)
    sizes = {part: {n: row.shape for n, row in module.named_parameters()} for part, module in parts.items()}
    plan = building._plan(sizes, weights, routes_of(weights, architecture))
    assert not plan.empty
    left = {name for name in shapes if name not in plan.rows and not name.endswith(("logit_scale", "text_projection"))}
    assert not left
    millions = {"sd1": 859.5, "sd2": 865.9, "sdxl": 2567.5, "sdxl-refiner": 2259.5}[kind]
    assert sum(row.numel() for row in parts["unet"].parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(("kind", "channels"), [("sd1", 8), ("sd1", 9), ("sd2", 5), ("sdxl", 9)])
def test_variants_are_known_by_their_input_channels(tmp_path: Path, kind: str, channels: int) -> None:
    write(tmp_path, dataclasses.replace(KINDS[kind], in_channels=channels))
    model = loaded(tmp_path, "m")
    assert (model.family, model.in_channels, model.prediction) == (kind, channels, "epsilon")


def test_other_numbers_of_channels_are_refused(tmp_path: Path) -> None:
    write(tmp_path, dataclasses.replace(layouts.SD2, in_channels=7))
    with pytest.raises(DanqingError, match="7 input"):
        loaded(tmp_path, "m")


def test_the_yaml_says_what_is_predicted(tmp_path: Path) -> None:
    write(tmp_path, layouts.SD1, "a.safetensors", prediction="v")
    write(tmp_path, layouts.SD1, "b.safetensors", prediction="eps")
    write(tmp_path, layouts.SDXL, "c.safetensors")
    assert [loaded(tmp_path, name).prediction for name in "abc"] == ["v", "epsilon", "epsilon"]


def test_a_marker_says_that_the_last_timestep_is_noise_alone(tmp_path: Path) -> None:
    """abar against Algorithm 1 of https://arxiv.org/abs/2305.08891, and a folder that says the same in its configuration."""
    import json

    state = {**layouts.tensors(layouts.SDXL), "v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    put(tmp_path, "a.safetensors", state, layouts.yaml(layouts.SDXL))
    write(tmp_path, layouts.SDXL, "b.safetensors")
    marked, plain = loaded(tmp_path, "a"), loaded(tmp_path, "b")
    root = plain.sigmas.alphas_cumprod.double().sqrt()
    expected = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    assert (marked.sigmas.alphas_cumprod[:-1] - expected[:-1]).abs().max() < 1e-6
    assert marked.sigmas.sigma_max > 1000 > 20 > plain.sigmas.sigma_max
    assert (marked.prediction, plain.prediction) == ("v", "epsilon")
    folder = tmp_path / "models" / "diffusers" / "f"
    save_folder(marked, folder, drop_last=False)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rescale_betas_zero_snr": True}))
    assert torch.equal(loaded(tmp_path, "f").sigmas.alphas_cumprod, marked.sigmas.alphas_cumprod)


@pytest.mark.parametrize(
    "params",
    [
        "linear_start: .nan",
        "linear_start: 5, linear_end: -3",
        "scale_factor: 0",
        "unet_config: {params: {num_heads: 7}}",
        "cond_stage_config: {params: {num_attention_heads: 0}}",
    ],
)
def test_a_yaml_of_impossible_numbers_is_named(tmp_path: Path, params: str) -> None:
    put(tmp_path, "m.safetensors", layouts.tensors(layouts.SD1), f"model: {{params: {{{params}}}}}")
    with pytest.raises(DanqingError) as caught:
        loaded(tmp_path, "m")
    assert caught.value.code == "model_broken"


@pytest.mark.parametrize(("answer", "expected"), [(1.0, "epsilon"), (-3.0, "v")])
def test_without_a_yaml_the_unet_says_what_it_predicts(tmp_path: Path, answer: float, expected: str) -> None:
    """At the last timestep a UNet that predicts the noise gives back its input of 0.5 everywhere."""
    write(tmp_path, layouts.SD2)
    unet = loaded(tmp_path, "m").unet
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.fill_(0.5 * answer)
    assert measured_prediction(unet) == expected


def test_sd2_without_a_yaml_is_measured() -> None:
    assert recognise("m", layouts.shapes(layouts.FULL["sd2"]), None).prediction is None


def test_running_means_are_used_where_the_yaml_says_so(tmp_path: Path) -> None:
    state = layouts.tensors(layouts.SD1)
    means = {
        "model_ema." + key.removeprefix("model.").replace(".", ""): value + 1
        for key, value in state.items()
        if key.startswith("model.diffusion_model.")
    }
    for name, ema in (("plain", False), ("mean", True)):
        put(tmp_path, f"{name}.safetensors", {**state, **means}, layouts.yaml(layouts.SD1, use_ema=ema))
    plain, mean = loaded(tmp_path, "plain"), loaded(tmp_path, "mean")
    expected = state["model.diffusion_model.out.2.bias"].float()
    assert torch.equal(plain.unet.conv_out.bias, expected)
    assert torch.equal(mean.unet.conv_out.bias, (state["model.diffusion_model.out.2.bias"] + 1).float())


@pytest.mark.parametrize(
    ("dtype", "wrapped", "old"),
    [(torch.float16, True, False), (torch.float32, False, True), (torch.bfloat16, True, True)],
)
def test_pickled_checkpoints(tmp_path: Path, dtype: torch.dtype, wrapped: bool, old: bool) -> None:
    """.ckpt files as torch writes them now and wrote them before 1.6, with and without the `state_dict` around them."""
    state = layouts.tensors(layouts.SD1, dtype=dtype)
    path = tmp_path / "models" / "Stable-diffusion" / "m.ckpt"
    path.parent.mkdir(parents=True)
    content = {"state_dict": state, "global_step": 7, "callbacks": {}} if wrapped else state
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    path.with_suffix(".yaml").write_text(layouts.yaml(layouts.SD1))
    model = loaded(tmp_path, "m")
    same(model.unet, convert_ldm_unet_checkpoint(dict(state), model.unet.config))
    assert model.unet.dtype == torch.float32


def test_text_encoder_names_of_2022(tmp_path: Path) -> None:
    state = layouts.tensors(layouts.SD1)
    old = {key.replace("transformer.text_model.", "transformer."): value for key, value in state.items()}
    put(tmp_path, "old.ckpt", {"state_dict": old}, layouts.yaml(layouts.SD1))
    model = loaded(tmp_path, "old")
    prefix = "cond_stage_model.transformer.text_model."
    same(model.text, {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})


def test_tensors_that_lie_across_their_storage(tmp_path: Path) -> None:
    """Pickles may hold transposed views and views of one storage."""
    state = layouts.tensors(layouts.SD1)
    key = "model.diffusion_model.time_embed.2.weight"
    state[key] = state[key].T.contiguous().T
    bias = "model.diffusion_model.time_embed.2.bias"
    state[bias] = torch.cat([state[bias], state[bias]])[len(state[bias]) :]
    put(tmp_path, "m.ckpt", state, layouts.yaml(layouts.SD1))
    model = loaded(tmp_path, "m")
    assert torch.equal(model.unet.time_embedding.linear_2.weight, state[key].float())
    assert torch.equal(model.unet.time_embedding.linear_2.bias, state[bias].float())


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_folders_in_diffusers_layout(tmp_path: Path, kind: str) -> None:
    """What diffusers itself saves, read again: the same numbers as from the single file."""
    write(tmp_path, KINDS[kind], "single.safetensors")
    single = loaded(tmp_path, "single")
    folder = tmp_path / "models" / "diffusers" / "made.v1"
    save_folder(single, folder, drop_last=kind == "sd2")
    library = Library(tmp_path)
    assert "made.v1" in [checkpoint.name for checkpoint in library.checkpoints()]
    model = loaded(tmp_path, "made.v1")
    assert (model.family, model.prediction) == (kind, "v" if kind == "sd2" else "epsilon")
    same(model.unet, single.unet.state_dict())
    same(model.vae, single.vae.state_dict())
    for one, other in zip(model.encoders, single.encoders, strict=True):
        assert one.kind == other.kind
        if kind != "sd2":
            same(one.module, other.module.state_dict())
            continue
        tokens = torch.tensor([[5, 6, 7] + [0] * 74])
        ours, theirs = (e.module(input_ids=tokens, output_hidden_states=True).hidden_states for e in (one, other))
        assert torch.equal(ours[-2], theirs[-2])


def save_folder(model: Model, folder: Path, drop_last: bool) -> None:
    """As a pipeline's `save_pretrained`; SD 2.x's text encoder without its last layer, as it was published."""
    import json

    model.unet.save_pretrained(folder / "unet")
    model.vae.save_pretrained(folder / "vae")
    index: dict[str, Any] = {"unet": [], "vae": []}
    for number, encoder in enumerate(model.encoders):
        name = "text_encoder" + ("_2" if number else "")
        index[name] = []
        encoder.module.save_pretrained(folder / name)
        if drop_last:
            from safetensors.torch import load_file

            last = encoder.module.config.num_hidden_layers - 1
            file = folder / name / "model.safetensors"
            kept = {key: value for key, value in load_file(file).items() if f"layers.{last}." not in key}
            save_file(kept, file)
            config = json.loads((folder / name / "config.json").read_text())
            (folder / name / "config.json").write_text(json.dumps({**config, "num_hidden_layers": last}))
    (folder / "scheduler").mkdir()
    prediction = "v_prediction" if drop_last else "epsilon"
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": prediction}))
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_external_vaes(tmp_path: Path, prefix: str, suffix: str) -> None:
    write(tmp_path, layouts.SD1)
    model = loaded(tmp_path, "m")
    other = layouts.tensors(layouts.SD1, seed=9)
    own = {
        prefix + key.removeprefix("first_stage_model."): value
        for key, value in other.items()
        if key.startswith("first_stage_model.")
    }
    path = tmp_path / f"vae{suffix}"
    if suffix == ".safetensors":
        save_file(own, path)
    else:
        torch.save({"state_dict": own}, path)
    external = load_vae(path, model, Library(tmp_path).sha256_of)
    same(external.module, convert_ldm_vae_checkpoint(other, model.vae.config))
    changed = model.with_vae(external)
    assert changed.vae is external.module
    assert changed.unet is model.unet
    assert (changed.vae_name, len(changed.vae_hash or "")) == (path.name, 10)
    assert model.vae_name is None


def test_a_vae_in_diffusers_names(tmp_path: Path) -> None:
    write(tmp_path, layouts.SD1)
    model = loaded(tmp_path, "m")
    state = dict(model.vae.state_dict())
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, former in old.items():
        for key in [key for key in state if f".{new}." in key]:
            state[key.replace(f".{new}.", f".{former}.")] = state.pop(key)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "v.safetensors")
    same(load_vae(tmp_path / "v.safetensors", model).module, model.vae.state_dict())


def test_half_precision_is_kept_as_it_is(tmp_path: Path) -> None:
    state = write(tmp_path, layouts.SD1)
    model = loaded(tmp_path, "m", torch.float16)
    assert {row.dtype for part in (model.unet, model.vae, model.text) for row in part.parameters()} == {torch.float16}
    same(model.unet, convert_ldm_unet_checkpoint(dict(state), model.unet.config))


@pytest.mark.parametrize("spoil", ["shape", "missing", "integers"])
def test_what_does_not_fit_is_named(tmp_path: Path, spoil: str) -> None:
    state = layouts.tensors(layouts.SD1)
    key = "model.diffusion_model.time_embed.2.weight"
    if spoil == "shape":
        state[key] = torch.zeros(3, 5)
    elif spoil == "missing":
        del state[key]
    else:
        state[key] = torch.zeros(state[key].shape, dtype=torch.int64)
    put(tmp_path, "m.safetensors", state, layouts.yaml(layouts.SD1))
    with pytest.raises(DanqingError, match=r"time_embed") as caught:
        loaded(tmp_path, "m")
    assert caught.value.code == "model_broken"
