"""Merging and converting: the arithmetic, what is kept, and that a file is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from danqing.errors import DanqingError
from danqing.library.cli import app
from danqing.library.convert import convert
from danqing.library.merge import Recipe, Source, merge

from . import layouts

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
VAE = "first_stage_model.encoder.conv_in.weight"
State = dict[str, torch.Tensor]


def small(seed: int, channels: int = 4) -> State:
    """A few tensors with a checkpoint's names."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {FIRST: (8, channels, 3, 3), VAE: (4, 3, 3, 3), "cond_stage_model.transformer.x.weight": (5, 5)}
    state = {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}
    return {**state, "cond_stage_model.transformer.embeddings.position_ids": torch.arange(77)[None]}


def put(folder: Path, name: str, state: State, **metadata: str) -> Source:
    path = folder / name
    if path.suffix == ".ckpt":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path, metadata or None)
    return Source(path, name, f"{name}-hash")


@pytest.fixture
def three(tmp_path: Path) -> tuple[list[State], list[Source]]:
    states = [small(seed) for seed in (1, 2, 3)]
    names = ("a.safetensors", "b.ckpt", "c.safetensors")
    return states, [put(tmp_path, name, state) for name, state in zip(names, states, strict=True)]


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_weighted_sum(tmp_path: Path, three: Any) -> None:
    (a, b, _), (first, second, _) = three
    merge(Recipe("weighted sum", first, second, multiplier=0.25), tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")
    assert set(out) == set(a)
    for name in (FIRST, VAE):
        assert torch.equal(out[name], (a[name].float() * 0.75 + b[name].float() * 0.25).half())
    assert torch.equal(out["cond_stage_model.transformer.embeddings.position_ids"], torch.arange(77)[None])


def test_add_difference(tmp_path: Path, three: Any) -> None:
    (a, b, c), sources = three
    merge(Recipe("add difference", *sources, multiplier=0.6), tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")[FIRST]
    assert torch.equal(out, (a[FIRST].float() + (b[FIRST].float() - c[FIRST].float()) * 0.6).half())


def test_no_interpolation_with_a_vae_baked_in(tmp_path: Path, three: Any) -> None:
    (a, _, _), (first, *_) = three
    bare = {VAE.removeprefix("first_stage_model."): torch.ones(4, 3, 3, 3)}
    save_file(bare, tmp_path / "v.safetensors")
    merge(Recipe("no interpolation", first, vae=tmp_path / "v.safetensors"), tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")
    assert torch.equal(out[VAE], torch.ones(4, 3, 3, 3).half())
    assert torch.equal(out[FIRST], a[FIRST])


def test_a_vae_in_diffusers_names_is_baked_in(tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    from danqing import torchvision_shim as torchvision_shim  # before diffusers

    first = put(tmp_path, "a.safetensors", layouts.tensors(layouts.SD1))
    other = layouts.tensors(layouts.SD1, seed=9)
    blocks = {"down_block_types": [""] * 4, "up_block_types": [""] * 4}
    theirs = convert_ldm_vae_checkpoint(other, blocks)
    save_file({key: value.contiguous().clone() for key, value in theirs.items()}, tmp_path / "v.safetensors")
    merge(Recipe("no interpolation", first, vae=tmp_path / "v.safetensors"), tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")
    own = [key for key in other if key.startswith("first_stage_model.")]
    assert len(own) > 100
    assert all(torch.equal(out[key], other[key]) for key in own)


def test_what_is_no_vae_is_not_passed_over_in_silence(tmp_path: Path, three: Any) -> None:
    _, (first, *_) = three
    save_file({"lora_unet_x.alpha": torch.ones(())}, tmp_path / "v.safetensors")
    with pytest.raises(DanqingError) as caught:
        merge(Recipe("no interpolation", first, vae=tmp_path / "v.safetensors"), tmp_path / "out.safetensors")
    assert caught.value.code == "merge_misfit"


def test_unsigned_numbers_are_kept_and_unknown_ones_named(tmp_path: Path) -> None:
    state = {**small(1), "count": torch.tensor([1, 65535], dtype=torch.uint16), "v_pred": torch.tensor([])}
    first = put(tmp_path, "a.safetensors", state)
    merge(Recipe("no interpolation", first), tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(out[key], value) for key, value in state.items())
    first.path.write_bytes(first.path.read_bytes().replace(b'"U16"', b'"Q16"'))
    with pytest.raises(DanqingError, match="Q16"):
        merge(Recipe("no interpolation", first), tmp_path / "other.safetensors")
    with pytest.raises(DanqingError, match="Q16"):
        convert(first.path, tmp_path / "other.safetensors")


def test_long_names_are_cut_or_named(tmp_path: Path) -> None:
    first, second = put(tmp_path, "a.safetensors", small(1)), put(tmp_path, "b.safetensors", small(2))
    sources = [replace(source, name="丹青" * 40 + ".safetensors") for source in (first, second)]
    recipe = Recipe("weighted sum", *sources)
    merge(recipe, tmp_path / f"{recipe.default_name}.safetensors")
    with pytest.raises(DanqingError) as caught:
        merge(recipe, tmp_path / ("x" * 300 + ".safetensors"))
    assert caught.value.code == "cannot_write"


def test_an_inpainting_model_takes_a_plain_one(tmp_path: Path) -> None:
    nine, four = small(1, 9), small(2)
    sources = [put(tmp_path, "nine.safetensors", nine), put(tmp_path, "four.safetensors", four)]
    merge(Recipe("weighted sum", *sources, multiplier=0.5), tmp_path / "out.safetensors")
    out = load_file(tmp_path / "out.safetensors")[FIRST]
    assert torch.equal(out[:, 4:], nine[FIRST][:, 4:])
    assert torch.equal(out[:, :4], (nine[FIRST][:, :4].float() * 0.5 + four[FIRST].float() * 0.5).half())
    for others in (("four", "nine"), ("nine", "four")):
        mixed = [put(tmp_path, f"{name}.safetensors", nine if name == "nine" else four) for name in others]
        with pytest.raises(DanqingError, match="B has") as caught:
            merge(Recipe("add difference", sources[0], *mixed), tmp_path / "other.safetensors")
    with pytest.raises(DanqingError, match="must be A") as caught:
        merge(Recipe("weighted sum", *reversed(sources)), tmp_path / "other.safetensors")
    assert caught.value.code == "merge_misfit"


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "F16"), ("bf16", "BF16"), ("fp32", "F32"), ("keep", "F16")])
def test_precision(tmp_path: Path, three: Any, precision: Any, dtype: str) -> None:
    _, (first, second, _) = three
    merge(Recipe("weighted sum", first, second, precision=precision), tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.get_slice(FIRST).get_dtype() == dtype
        assert file.get_slice("cond_stage_model.transformer.embeddings.position_ids").get_dtype() == "I64"


def test_discarded_weights_and_metadata(tmp_path: Path, three: Any) -> None:
    _, (_, second, _) = three
    first = put(tmp_path, "with.safetensors", small(1), author="somebody", **{"modelspec.license": "MIT"})
    recipe = Recipe("weighted sum", first, second, discard="^first_stage", metadata={"note": "墨"})
    merge(recipe, tmp_path / "out.safetensors")
    assert VAE not in load_file(tmp_path / "out.safetensors")
    found = metadata_of(tmp_path / "out.safetensors")
    assert (found["author"], found["note"], found["format"]) == ("somebody", "墨", "pt")
    made = json.loads(found["sd_merge_recipe"])
    assert (made["interp_method"], made["multiplier"]) == ("Weighted sum", 0.3)
    assert made["secondary_model_hash"] == second.sha256
    assert set(json.loads(found["sd_merge_models"])) == {first.sha256, second.sha256}


def test_the_yaml_goes_with_it(tmp_path: Path, three: Any) -> None:
    _, (first, second, _) = three
    config = tmp_path / "b.yaml"
    config.write_text("model: {}")
    second = Source(second.path, second.name, second.sha256, config)
    merge(Recipe("weighted sum", first, second), tmp_path / "out.safetensors")
    assert (tmp_path / "out.yaml").read_text() == "model: {}"
    merge(Recipe("weighted sum", first, second, config_from="none"), tmp_path / "bare.safetensors")
    assert not (tmp_path / "bare.yaml").exists()


def test_what_does_not_go_together(tmp_path: Path, three: Any) -> None:
    states, (first, second, _) = three
    with pytest.raises(DanqingError) as caught:
        merge(Recipe("add difference", first, second), tmp_path / "out.safetensors")
    assert caught.value.code == "merge_lacks"
    with pytest.raises(DanqingError) as caught:
        merge(Recipe("weighted sum", first, second, discard="("), tmp_path / "out.safetensors")
    assert caught.value.code == "invalid_field"
    other = put(tmp_path, "wide.safetensors", {**states[0], VAE: torch.zeros(9, 3, 3, 3)})
    with pytest.raises(DanqingError) as caught:
        merge(Recipe("weighted sum", first, other), tmp_path / "out.safetensors")
    assert caught.value.code == "merge_misfit"
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".danqing*"))


def test_a_file_is_whole_or_not_there(tmp_path: Path, three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (first, second, _) = three
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(DanqingError) as caught:
        merge(Recipe("weighted sum", first, second), target)
    assert caught.value.code == "file_exists"

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(DanqingError) as caught:
            merge(Recipe("weighted sum", first, second), target, overwrite=True)
    assert caught.value.code == "disk_full"
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
        with pytest.raises(DanqingError) as caught:
            merge(Recipe("weighted sum", first, second), target, overwrite=True)
    assert caught.value.code == "disk_full"
    assert target.read_bytes() == b"mine"
    assert not list(tmp_path.glob(".danqing*"))
    merge(Recipe("weighted sum", first, second), target, overwrite=True)
    assert FIRST in load_file(target)


def with_means(state: State) -> State:
    means = {
        "model_ema." + key.removeprefix("model.").replace(".", ""): value + 1
        for key, value in state.items()
        if key.startswith("model.diffusion_model.")
    }
    return {
        **state,
        **means,
        "model_ema.decay": torch.tensor(0.99),
        "betas": torch.zeros(10),
        "loss.logvar": torch.ones(1),
    }


@pytest.mark.parametrize(("kept", "plus", "means"), [("all", 0, True), ("no-ema", 0, False), ("ema-only", 1, False)])
def test_convert(tmp_path: Path, kept: Any, plus: int, means: bool) -> None:
    state = with_means(small(1))
    path = put(tmp_path, "m.ckpt", state).path
    path.with_suffix(".yaml").write_text("model: {}")
    convert(path, tmp_path / "made" / "out.safetensors", "fp16", kept, prune=kept != "all")
    out = load_file(tmp_path / "made" / "out.safetensors")
    assert torch.equal(out[FIRST], state[FIRST] + plus)
    assert any(name.startswith("model_ema.") for name in out) is means
    assert ("betas" in out) is means
    assert (tmp_path / "made" / "out.yaml").is_file()


def test_there_must_be_means_to_keep_them_alone(tmp_path: Path) -> None:
    path = put(tmp_path, "m.safetensors", small(1)).path
    with pytest.raises(DanqingError, match="EMA"):
        convert(path, tmp_path / "out.safetensors", kept="ema-only")


def test_a_converted_checkpoint_is_the_same_model(tmp_path: Path) -> None:
    """Every name of a whole checkpoint survives, from .ckpt to .safetensors."""
    state = layouts.tensors(layouts.SD1)
    torch.save(state, tmp_path / "m.ckpt")
    convert(tmp_path / "m.ckpt", tmp_path / "m.safetensors", prune=True, kept="no-ema")
    out = load_file(tmp_path / "m.safetensors")
    assert set(out) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in out.items())


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments], env={"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    put(folder, "a.safetensors", small(1))
    put(folder, "b.ckpt", small(2))
    data = ("--data", str(tmp_path))
    assert run("merge", "a", "b", "-m", "0.5", *data)[0] == 0
    made = folder / "0.5(a) + 0.5(b).safetensors"
    assert json.loads(metadata_of(made)["sd_merge_recipe"])["multiplier"] == 0.5
    assert run("convert", "b", *data)[0] == 0
    assert (folder / "b.safetensors").is_file()
    _, text = run("list", "--json", *data)
    titles = [row["title"] for row in json.loads(text)["checkpoints"]]
    assert [title.split(" [")[0] for title in titles[:3]] == [made.name, "a.safetensors", "b.ckpt"]
    _, text = run("hash", "a", *data)
    assert text.split() == [hashlib.sha256((folder / "a.safetensors").read_bytes()).hexdigest(), "a.safetensors"]
    with pytest.raises(DanqingError):
        run("merge", "nobody", *data)
