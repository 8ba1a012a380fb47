"""Each method from the first step to its file: what changes, what goes on after a stop, and who else can read the file."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from danqing.adapters import hypernetwork as adapters
from danqing.adapters.files import lora_of
from danqing.adapters.hypernetwork import hypernetwork_of
from danqing.adapters.keys import Places
from danqing.adapters.reading import read
from danqing.errors import DanqingError
from danqing.library.embedding_files import read_embedding
from danqing.train.folder import Training
from danqing.train.loss import mean_error, noise_like, noised, target_of, weights_of
from danqing.train.memory import estimate, estimate_for
from danqing.train.networks import open_networks
from danqing.train.order import Order
from danqing.train.prepare import prepare
from danqing.train.progress import losses
from danqing.train.recipe import ACTIVATIONS, METHODS, PRESETS, parsed, preset
from danqing.train.text import Encoding, row_of
from danqing.train.trainer import Trainer

from ..library import layouts
from .conftest import begin, go_on

CPU = torch.device("cpu")


class Made(NamedTuple):
    path: Path
    training: Training
    trainer: Trainer


RICH: dict[str, dict[str, Any]] = {
    "textual_inversion": {
        **{"vectors": 2, "initial_text": "red thing", "schedule": "cosine", "flip": True, "precision": "bf16"},
    },
    "lora": {
        **{"train_text_encoder": True, "conv_rank": 2, "alpha": 2.0, "lr_plus_ratio": 8.0, "ema": 0.9},
        **{"min_snr_gamma": 5.0, "gradient_checkpointing": True},
    },
    "dreambooth": {"model": "sd2", "train_text_encoder": True, "noise_offset": 0.1, "gradient_accumulation": 2},
    "hypernetwork": {
        **{"hypernetwork_activation": "relu", "hypernetwork_dropout": 0.3, "hypernetwork_layer_norm": True},
        **{"class_prompt": "a dog\na cat", "class_pictures": 3, "sample_steps": 1, "caption_dropout": 0.3},
    },
}
"""Settings that matter to each method, spread over them. DreamBooth as LoRA is the same code as LoRA."""


@pytest.fixture(scope="module")
def made(root: Path) -> Callable[[str], Made]:
    """By method, trained once without a stop: the result's file, the training, and the trainer after its last step."""

    @cache
    def train(method: str) -> Made:
        training = begin(root, method=method, **RICH[method])
        trainer = go_on(training, root)
        result = training.result()
        assert result is not None
        return Made(root / result["files"][0]["path"], training, trainer)

    return train


@pytest.mark.parametrize("method", RICH)
def test_a_stopped_training_ends_as_one_that_went_through(root: Path, method: str, made: Callable[[str], Made]) -> None:
    """Loss curve and result to the last bit: nothing that is drawn at random or remembered is lost."""
    through = made(method)
    stopped = begin(root, method=method, **RICH[method])
    go_on(stopped, root, until=2)
    assert stopped.state() == "paused"
    other = go_on(stopped, root)
    assert losses(stopped.rows()) == losses(through.training.rows())
    assert list(losses(stopped.rows())) == [1, 2, 3]
    assert all(torch.equal(p, other.method.trained[name]) for name, p in through.trainer.method.trained.items())
    result = stopped.result()
    assert result is not None
    assert stopped.state() == "done"
    assert root.joinpath(result["files"][0]["path"]).is_file()
    assert not stopped.path.joinpath("result").exists()


def pipeline(root: Path, model: str = "sd1") -> Any:
    """diffusers' pipeline over a checkpoint's networks."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    import danqing

    networks = open_networks(root, parsed({"method": "lora", "name": "x", "model": model}), CPU)
    tokenizer = CLIPTokenizer.from_pretrained(str(Path(danqing.__file__).parent / "assets" / "clip"))
    return StableDiffusionPipeline(
        vae=networks.vae,
        text_encoder=networks.text,
        tokenizer=tokenizer,
        unet=networks.unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def test_a_lora_loads_in_diffusers_tensor_for_tensor(root: Path, made: Callable[[str], Made]) -> None:
    path, _, trainer = made("lora")
    pipe = pipeline(root)
    pipe.load_lora_weights(str(path), adapter_name="ours")
    loaded = {
        f"{part}.{name.replace('.ours.', '.danqing.')}": parameter
        for part, module in (("unet", pipe.unet), ("text", pipe.text_encoder))
        for name, parameter in module.named_parameters()
        if ".lora_" in name
    }
    assert loaded.keys() == trainer.method.trained.keys()
    with trainer.optimizing.averaged():  # the running mean is the result
        for name, parameter in trainer.method.trained.items():
            assert torch.equal(loaded[name].half(), parameter.half()), name
    assert pipe.unet.down_blocks[0].attentions[0].proj_in.scaling["ours"] == pytest.approx(0.5)
    assert pipe.unet.down_blocks[0].resnets[0].conv1.scaling["ours"] == pytest.approx(0.5)


def test_a_lora_has_kohyas_keys_and_finds_its_places(root: Path, made: Callable[[str], Made]) -> None:
    path, _, trainer = made("lora")
    tensors = load_file(path)
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert {f"{stem}.alpha", f"{stem}.lora_down.weight", f"{stem}.lora_up.weight"} <= tensors.keys()
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in tensors
    assert "lora_unet_mid_block_resnets_0_conv1.lora_down.weight" in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    file = lora_of(path.name, read(path))
    networks = open_networks(root, trainer.recipe, CPU)
    places = Places(networks.unet, [("te1", networks.text)])
    assert all(places.find(layer) is not None for layer in file.layers)
    assert len(file.layers) == len(trainer.method.trained) // 2
    with safe_open(str(path), "pt") as opened:
        facts = opened.metadata()
    assert (facts["ss_network_module"], facts["ss_network_dim"], facts["ss_output_name"]) == (
        "networks.lora",
        "4",
        path.stem,
    )
    assert parsed(json.loads(facts["danqing.recipe"])) == trainer.recipe.model_copy(update={"data": ""})
    assert '"activation text": "zqx"' in path.with_suffix(".json").read_text("utf-8")


def test_an_embedding_loads_in_diffusers_and_as_the_webui_writes_it(root: Path, made: Callable[[str], Made]) -> None:
    path, _, trainer = made("textual_inversion")
    vectors = trainer.method.trained["vectors"].detach()
    pipe = pipeline(root)
    pipe.load_textual_inversion(str(path), token="<zqx>")
    table = pipe.text_encoder.get_input_embeddings().weight
    ids = pipe.tokenizer.convert_tokens_to_ids(["<zqx>", "<zqx>_1"])
    assert torch.equal(table[ids], vectors)
    tree = torch.load(path, weights_only=True)
    assert tree["string_to_token"] == {"*": 265}
    assert torch.equal(tree["string_to_param"]["*"], vectors)
    assert (tree["name"], tree["step"], tree["sd_checkpoint_name"]) == (path.stem, 3, "sd1")
    ours = read_embedding(path)
    assert ours is not None
    assert torch.equal(torch.from_numpy(ours.vectors[""]), vectors)


def test_a_recipe_knows_all_activations() -> None:
    assert tuple(adapters.ACTIVATIONS) == ACTIVATIONS


def test_a_hypernetwork_is_laid_out_as_the_webui_has_it(made: Callable[[str], Made]) -> None:
    path, _, trainer = made("hypernetwork")
    tree = torch.load(path, weights_only=True)
    assert sorted(key for key in tree if isinstance(key, int)) == [32, 64, 128]
    assert tree["layer_structure"] == [1, 2, 1]
    assert (tree["activation_func"], tree["is_layer_norm"], tree["activate_output"]) == ("relu", True, False)
    assert list(tree[64][0]) == [f"linear.{n}.{end}" for n in (0, 2, 4, 5) for end in ("weight", "bias")]
    file = hypernetwork_of(path.name, read(path))
    pair = file.networks(64, CPU, torch.float32)
    assert pair is not None
    trainer.method.train(False)
    x = torch.randn(2, 7, 64)
    with torch.no_grad():
        for ours, theirs in zip(pair, trainer.method._pairs[64], strict=True):
            assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_a_checkpoint_has_the_tensors_of_its_base(root: Path, made: Callable[[str], Made]) -> None:
    """SD 2's: OpenCLIP's names, joined q, k and v, v-prediction."""
    path, _, trainer = made("dreambooth")
    base, found = load_file(root / "models" / "Stable-diffusion" / "sd2.safetensors"), load_file(path)
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {n: (t.dtype, t.shape) for n, t in base.items()}
    changed = {name.split(".")[0] for name, tensor in found.items() if not torch.equal(tensor, base[name])}
    assert changed == {"model", "cond_stage_model"}
    again = open_networks(root, parsed({"method": "dreambooth", "name": "x", "model": path.name}), CPU)
    assert again.is_v
    kept = {f"unet.{name}": p for name, p in again.unet.named_parameters()}
    kept |= {f"text0.{name}": p for name, p in again.text.named_parameters()}
    for name, parameter in trainer.method.trained.items():
        assert torch.equal(kept[name].half(), parameter.half()), name


def test_losses_follow_their_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    x, shares = torch.randn(3, 4, 8, 8, generator=generator), torch.tensor([0.9, 0.5, 0.1])
    noise = noise_like(x, 0.0, torch.Generator().manual_seed(1))
    share = shares.view(-1, 1, 1, 1)
    noisy, v = noised(x, noise, shares), target_of(x, noise, shares, True)
    # v and the noisy latents are a rotation of latents and noise
    assert torch.allclose(share.sqrt() * noisy - (1 - share).sqrt() * v, x, atol=1e-5)
    assert torch.allclose((1 - share).sqrt() * noisy + share.sqrt() * v, noise, atol=1e-5)
    assert torch.equal(target_of(x, noise, shares, False), noise)
    snr = torch.tensor([9.0, 1.0, 1 / 9])
    assert torch.allclose(weights_of(shares, 5.0, False), snr.clamp(max=5) / snr)
    assert torch.allclose(weights_of(shares, 5.0, True), snr.clamp(max=5) / (snr + 1))
    moved = noise_like(torch.zeros(64, 4, 8, 8), 0.5, torch.Generator().manual_seed(2)).mean((2, 3))
    assert 0.4 < float(moved.std()) < 0.65
    mask = torch.zeros(3, 1, 8, 8)
    mask[..., :4] = 1
    wrong = torch.cat([x[..., :4], x[..., 4:] + 100], dim=-1)
    assert float(mean_error(wrong, x, torch.ones(3), mask)) == 0
    assert float(mean_error(x + 1, x, torch.ones(3), mask)) == pytest.approx(1.0)


def test_every_picture_comes_once_an_epoch_and_the_order_is_the_seeds() -> None:
    sizes = [(64, 64)] * 5 + [(96, 32)] * 2
    order, again = Order(sizes, 2, 7), Order(sizes, 2, 7)
    first = [order.batch(number) for number in range(order.batches_an_epoch)]
    assert order.batches_an_epoch == 4
    assert {index for batch in first for index in batch} == set(range(7))
    assert all(len({sizes[index] for index in batch}) == 1 for batch in first)
    assert [again.batch(number) for number in (9, 2, 9)] == [order.batch(9), first[2], order.batch(9)]
    assert [order.batch(number + 4) for number in range(4)] != first


def test_the_learned_word_takes_its_places(root: Path) -> None:
    networks = open_networks(root, parsed({"method": "lora", "name": "x", "model": "sd1"}), CPU)
    row = row_of("a ZQX and zqx, not zqxy", networks.encoder, "zqx", 3)
    plain = row_of("a", networks.encoder).ids
    assert len(row.ids) == 77
    assert row.places == [2, 6]
    assert row.ids[:2] == plain[:2]
    assert len(row_of("word " * 200, networks.encoder).ids) == 77


def test_masks_leave_places_out(root: Path, tmp_path: Path) -> None:
    """What a black mask covers teaches nothing: two pictures that differ there only give the same curve."""
    import numpy as np
    from PIL import Image

    curves = []
    for name, colour in (("one", (255, 0, 0)), ("two", (0, 255, 0))):
        pixels = np.full((128, 128, 3), 90, np.uint8)
        pixels[96:, :] = colour
        mask = np.full((128, 128), 255, np.uint8)
        mask[56:, :] = 0
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
        Image.fromarray(mask).save(tmp_path / name / "a-mask.png")
        training = begin(
            root, method="lora", data=str(tmp_path / name), masks=True, steps=1, batch_size=1, resolution=128
        )
        trainer = go_on(training, root)
        assert trainer._latents.draw([0], random.Random(0), torch.Generator())[1] is not None
        curves.append(losses(training.rows())[1])
    assert curves[0] == pytest.approx(curves[1], rel=0.2)


OTHERS = ["a dog", "a cat"]


def drift(root: Path, method: str, **fields: Any) -> float:
    """How far a training moves what the model says of other prompts; that the model of before is still there is seen to."""
    prior = {"class_prompt": "\n".join(OTHERS), "class_pictures": 2, "prior_weight": 4.0, "sample_steps": 1}
    fields = {"model": "sd1", "train_text_encoder": method != "hypernetwork"} | prior | fields
    trainer = go_on(begin(root, method=method, **fields), root)
    plain = open_networks(root, trainer.recipe, CPU)
    generator = torch.Generator().manual_seed(3)
    latents, times = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([100, 900])
    with torch.no_grad():
        context = Encoding(plain.encoder)(OTHERS)
        wanted = plain.unet(latents, times, encoder_hidden_states=context, return_dict=False)[0]
        now = trainer.method.predict(latents, times, trainer.method.encode(OTHERS))
        if trainer.recipe.prior_target == "model":
            assert torch.equal(trainer.method.before(latents, times, OTHERS), wanted)
            assert torch.equal(trainer.method.predict(latents, times, trainer.method.encode(OTHERS)), now)
    return float((now - wanted).square().mean())


@pytest.mark.parametrize("method", ["lora", "dreambooth", "hypernetwork"])
def test_what_the_untouched_model_says_holds_other_prompts_closer(root: Path, method: str) -> None:
    noise, model = (drift(root, method, steps=6, prior_target=target) for target in ("noise", "model"))
    assert 0 < model < 0.7 * noise


def test_captions_left_out_are_left_out_of_class_pictures_too(root: Path) -> None:
    """What is drawn from no prompt is half of every guided step."""
    fields = {"class_prompt": "a dog", "class_pictures": 1, "sample_steps": 1, "steps": 5, "caption_dropout": 0.5}
    training = begin(root, method="lora", **fields)
    networks, index = open_networks(root, training.recipe(), CPU), prepare(training, root)
    trainer = Trainer(training, networks, index, lambda: False)
    encode, read = trainer.method.encode, []
    trainer.method.encode = lambda texts: (read.append(list(texts)), encode(texts))[1]  # type: ignore[assignment]
    trainer.run()
    assert {text for texts in read[1::2] for text in texts} == {"a dog", ""}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"optimizer": "adamw8bit"}, "train_needs"),
        ({"method": "hypernetwork", "hypernetwork_activation": "sine"}, "invalid_field"),
        ({"method": "hypernetwork", "hypernetwork_sizes": [7]}, "invalid_field"),
        ({"schedule": "piecewise_constant", "rate_rules": "words"}, "invalid_field"),
        ({"model": "none such"}, "unknown_model"),
        ({"learning_rate": 10.0, "steps": 40, "max_grad_norm": 0}, "train_diverged"),
    ],
)
def test_what_cannot_be_trained_has_a_name(root: Path, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(DanqingError) as caught:
        go_on(begin(root, **({"method": "dreambooth"} | fields)), root)
    assert caught.value.code == code


def test_estimates_count_what_is_trained(root: Path, made: Callable[[str], Made]) -> None:
    for method in RICH:
        trainer = made(method).trainer
        trained = sum(parameter.numel() for parameter in trainer.method.trained.values())
        found = estimate_for(root, trainer.recipe)
        assert found.parts["gradients"] == 4 * trained, method
        assert not found.measured
        assert found.bytes == sum(found.parts.values())


def test_presets_fit_their_machines() -> None:
    shapes = layouts.shapes(layouts.FULL["sd1"])
    for machine, room in (("t4", 15), ("a10g", 22)):
        for method in METHODS:
            recipe = parsed(preset(machine, method) | {"method": method, "name": "x"})
            found = estimate(recipe, shapes, 512)
            assert found.bytes < room * 2**30, (machine, method, found)
    assert set(PRESETS) == {"t4", "a10g", "cpu-mini"}
    one = parsed({"method": "lora", "name": "x", "precision": "fp16"})
    two = one.model_copy(update={"batch_size": 2})
    saving = one.model_copy(update={"gradient_checkpointing": True})
    sizes = [estimate(recipe, shapes, 512).bytes for recipe in (saving, one, two)]
    assert sizes == sorted(sizes)
    assert dataclasses.is_dataclass(estimate(one, shapes, 512))
