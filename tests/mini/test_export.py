"""The single file's layout, checked against diffusers' own converters."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors import safe_open

from danqing.mini.config import ldm_config
from danqing.mini.export import checkpoint, fold_statistics, latent_to_rgb, widen_text
from danqing.mini.keys import text_key, unet_key, vae_key
from danqing.mini.nets import SCALE, VAE, VOCABULARY, new_text, new_unet, new_vae


def test_unet_keys_are_what_diffusers_reads() -> None:
    unet = new_unet()
    own = unet.state_dict()
    found = convert_ldm_unet_checkpoint({unet_key(k): v for k, v in own.items()}, dict(unet.config))
    assert set(found) == set(own)
    assert all(found[k].equal(own[k]) for k in own)


def test_vae_keys_are_what_diffusers_reads() -> None:
    vae = new_vae()
    own = vae.state_dict()
    found = convert_ldm_vae_checkpoint({vae_key(k): v for k, v in own.items()}, dict(vae.config))
    assert set(found) == set(own)
    assert all(found[k].equal(own[k]) for k in own)


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        unet_key("somewhere.weight")


def test_text_keys_are_the_same_however_transformers_spells_them() -> None:
    assert text_key("text_model.final_layer_norm.weight") == text_key("final_layer_norm.weight")


def test_folding_keeps_the_pictures_and_sets_the_scale() -> None:
    torch.manual_seed(0)
    vae, folded = new_vae(), new_vae()
    folded.load_state_dict(vae.state_dict())
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        plain = vae.encode(pictures).latent_dist
        shift, spread = plain.mean.mean((0, 2, 3)), plain.mean.std((0, 2, 3))
        fold_statistics(folded, shift, spread)
        latents = folded.encode(pictures).latent_dist
        scaled = latents.mean * SCALE
        assert scaled.mean((0, 2, 3)).abs().max() < 1e-3
        assert torch.allclose(scaled.std((0, 2, 3)), torch.ones(4), atol=1e-3)
        assert torch.allclose(latents.std * SCALE, plain.std / spread.view(1, 4, 1, 1), rtol=1e-3)
        assert torch.allclose(folded.decode(latents.mean).sample, vae.decode(plain.mean).sample, atol=1e-4)


def test_words_never_trained_share_the_unknowns_row() -> None:
    text = new_text(4)
    table = widen_text(text, [49406, 49407, 320]).state_dict()["embeddings.token_embedding.weight"]
    small = text.state_dict()["embeddings.token_embedding.weight"]
    assert table.shape == (VOCABULARY, small.shape[1])
    assert table[320].equal(small[3])
    assert table[49407].equal(small[2])
    assert table[100].equal(small[0])


def test_the_preview_map_has_the_shape_that_loaders_expect() -> None:
    fitted = latent_to_rgb(new_vae(), 2)
    assert [len(row) for row in fitted["matrix"]] == [3] * 4
    assert len(fitted["bias"]) == 3


def test_the_configuration_names_what_cannot_be_read_from_tensors() -> None:
    params = yaml.safe_load(ldm_config())["model"]["params"]
    assert params["unet_config"]["params"]["num_heads"] == 4
    assert params["unet_config"]["params"]["channel_mult"] == [1, 1, 2, 2]
    assert params["first_stage_config"]["params"]["ddconfig"]["norm_num_groups"] == VAE["norm_num_groups"]
    assert params["cond_stage_config"]["params"]["hidden_act"] == "quick_gelu"
    assert checkpoint().with_suffix(".yaml").read_text("utf-8") == ldm_config()


def test_the_shipped_file_is_small_and_says_what_it_is() -> None:
    assert checkpoint().stat().st_size <= 30_000_000
    with safe_open(str(checkpoint()), "pt") as file:
        metadata = file.metadata()
        dtypes = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert dtypes == {"F16"}
    assert metadata["modelspec.title"] == "danqing-mini"
    assert metadata["modelspec.license"] == "Apache-2.0"
    assert set(json.loads(metadata["danqing.latent_rgb"])) == {"matrix", "bias"}
