"""The many names of a module, diffusers' own conversions beside ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from danqing.adapters.keys import Places, split

from .support import make_text, make_unet, normal


@pytest.fixture(scope="module")
def unet() -> Any:
    return make_unet()


@pytest.fixture(scope="module")
def places(unet: Any) -> Places:
    return Places(unet, [("te1", make_text()), ("te2", make_text(projection=True))])


def path_of(places: Places, stem: str) -> tuple[str, str] | None:
    found = places.find(stem)
    return None if found is None else (found.network, found.path)


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "encoder.layers.1.self_attn.q_proj"

NAMES = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": ("unet", ATTENTION),
    "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": ("unet", ATTENTION),
    "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q": ("unet", ATTENTION),
    "unet." + ATTENTION: ("unet", ATTENTION),
    "base_model.model.unet." + ATTENTION: ("unet", ATTENTION),
    "base_model.model." + ATTENTION: ("unet", ATTENTION),
    ATTENTION: ("unet", ATTENTION),
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q": ("unet", ATTENTION),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out": (
        "unet",
        ATTENTION[:-4] + "to_out.0",
    ),
    "oft_unet_mid_block_attentions_0_proj_in": ("unet", "mid_block.attentions.0.proj_in"),
    "lora_unet_middle_block_2_in_layers_2": ("unet", "mid_block.resnets.1.conv1"),
    "lora_unet_input_blocks_3_0_op": ("unet", "down_blocks.0.downsamplers.0.conv"),
    "lora_unet_input_blocks_4_0_skip_connection": ("unet", "down_blocks.1.resnets.0.conv_shortcut"),
    "lora_unet_output_blocks_2_1_conv": ("unet", "up_blocks.0.upsamplers.0.conv"),
    "lora_unet_output_blocks_3_1_proj_out": ("unet", "up_blocks.1.attentions.0.proj_out"),
    "lora_unet_time_embed_2": ("unet", "time_embedding.linear_2"),
    "lora_unet_out_2": ("unet", "conv_out"),
    "lora_te_text_model_encoder_layers_1_self_attn_q_proj": ("te1", TEXT),
    "lora_te1_text_model_encoder_layers_1_self_attn_q_proj": ("te1", TEXT),
    "lora_te2_text_model_encoder_layers_1_self_attn_q_proj": ("te2", TEXT),
    "text_encoder.text_model." + TEXT: ("te1", TEXT),
    "text_encoder." + TEXT: ("te1", TEXT),
    "text_encoder_2.text_model." + TEXT: ("te2", TEXT),
    "text_encoder.text_model.encoder.layers.1.self_attn.to_q": ("te1", TEXT),
    "lora_te2_text_projection": ("te2", "text_projection"),
    "lora_unet_joint_blocks_0_x_block_attn_qkv": None,
    "transformer.single_transformer_blocks.0.attn.to_q": None,
    "": None,
}


@pytest.mark.parametrize("stem", list(NAMES))
def test_names(places: Places, stem: str) -> None:
    expected, found = NAMES[stem], path_of(places, stem)
    if expected and found and expected[0] == "te2":
        found = found[0], found[1].removeprefix("text_model.")
    assert found == expected


ENDS = {
    "lora_unet_x.lora_up.weight": ("lora_unet_x", "up"),
    "lora_unet_x.alpha": ("lora_unet_x", "alpha"),
    "unet.x.y.lora_A.weight": ("unet.x.y", "down"),
    "unet.x.y.lora_B.default.weight": ("unet.x.y", "up"),
    "unet.x.y.lora.down.weight": ("unet.x.y", "down"),
    "text.x.lora_linear_layer.up.weight": ("text.x", "up"),
    "unet.a.attn1.processor.to_q_lora.up.weight": ("unet.a.attn1.processor.to_q", "up"),
    "unet.a.lora_magnitude_vector": ("unet.a", "magnitude"),
    "a.hada_w1_a": ("a", "hada_w1_a"),
    "a.lokr_t2": ("a", "lokr_t2"),
    "a.weight": ("a", "ia3"),
    "a.b2.weight": ("a", "b2"),
    "a.oft_diag": ("a", "oft_turned"),
    "a.diff_b": ("a", "diff_b"),
    "alpha": None,
    "a.bias": None,
}


@pytest.mark.parametrize("key", list(ENDS))
def test_ends(key: str) -> None:
    assert split(key) == ENDS[key]


def test_every_original_name_is_diffusers_own(unet: Any, places: Places) -> None:
    """diffusers' converter of whole checkpoints says which original weight becomes which module of its own."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    parameters = [name for name, _ in unet.named_parameters() if name.endswith(".weight")]
    originals = original_names(unet)
    found = convert_ldm_unet_checkpoint(
        {f"model.diffusion_model.{name}": torch.tensor(float(n)) for n, name in enumerate(originals)}, dict(unet.config)
    )
    assert set(parameters) <= set(found)
    for name in parameters:
        original = originals[int(found[name])].removesuffix(".weight")
        assert path_of(places, "lora_unet_" + original.replace(".", "_")) == ("unet", name.removesuffix(".weight")), (
            name
        )


def original_names(unet: Any) -> list[str]:
    """Names of the weights in the original code, for two levels of two blocks of which the first attends."""
    resnet = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection")
    inner = [n for n, _ in unet.mid_block.attentions[0].named_parameters() if n.endswith(".weight")]
    blocks = [f"input_blocks.{n}.0.{r}.weight" for n in (1, 2, 4, 5) for r in resnet]
    blocks += [f"output_blocks.{n}.0.{r}.weight" for n in range(6) for r in resnet]
    blocks += [f"middle_block.{n}.{r}.weight" for n in (0, 2) for r in resnet]
    blocks += [f"input_blocks.{n}.1.{r}" for n in (1, 2) for r in inner]
    blocks += [f"output_blocks.{n}.1.{r}" for n in (3, 4, 5) for r in inner]
    blocks += [f"middle_block.1.{r}" for r in inner]
    blocks += ["input_blocks.3.0.op.weight", "output_blocks.2.1.conv.weight", "input_blocks.0.0.weight"]
    blocks += ["time_embed.0.weight", "time_embed.2.weight", "out.0.weight", "out.2.weight"]
    # Biases too: the converter moves each by its own name.
    return blocks + [name.removesuffix("weight") + "bias" for name in blocks]


def test_kohya_names_are_diffusers_own(unet: Any, places: Places) -> None:
    """diffusers' converter of kohya's LoRA files, for the attention layers and the feed-forward of UNet and text encoder."""
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

    paths = [n for n, m in unet.named_modules() if isinstance(m, nn.Linear) and "transformer_blocks" in n]
    names = {"lora_unet_" + path.replace(".", "_"): ("unet", path) for path in paths}
    names["lora_te_text_model_encoder_layers_0_mlp_fc1"] = ("te1", "encoder.layers.0.mlp.fc1")
    state = {}
    for n, stem in enumerate(names):
        state |= {stem + ".lora_down.weight": normal(2, 3) + n, stem + ".lora_up.weight": normal(3, 2)}
        state[stem + ".alpha"] = torch.tensor(2.0)
    converted, _ = _convert_non_diffusers_lora_to_diffusers(dict(state))
    assert len(converted) == 2 * len(names)
    by_number = {float(v[0, 0]): split(k) for k, v in converted.items() if ".down." in k or ".lora_A." in k}
    for stem, place in names.items():
        parts = by_number[float(state[stem + ".lora_down.weight"][0, 0])]
        assert parts is not None
        assert path_of(places, parts[0]) == path_of(places, stem) == place


def test_sdxl_names(unet: Any) -> None:
    """Ten transformer blocks a level and linear projections: the numbers of the original code go on counting."""
    wide = make_unet(linear=True, depth=2)
    places = Places(wide, [])
    for n in range(2):
        assert path_of(places, f"lora_unet_output_blocks_5_1_transformer_blocks_{n}_ff_net_0_proj") == (
            "unet",
            f"up_blocks.1.attentions.2.transformer_blocks.{n}.ff.net.0.proj",
        )
    assert places.find("lora_te1_text_model_encoder_layers_0_mlp_fc1") is None
