"""The LDM configuration beside the single file."""

from __future__ import annotations

import yaml

from danqing.mini.nets import BETA, SCALE, STEPS, TEXT, TOKENS, UNET, VAE, WIDTH

_NOTE = """\
# danqing-mini: Stable Diffusion 1.x in small. The UNet is what the original code builds from this file; the VAE
# normalises in {groups} groups (`norm_num_groups`), where the original code is fixed at 32: a loader must read it.
"""


def ldm_config() -> str:
    """The YAML text, in the layout of the original repository's `v1-inference.yaml`."""
    params = {
        "linear_start": BETA[0],
        "linear_end": BETA[1],
        "timesteps": STEPS,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": UNET["sample_size"],
        "channels": 4,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "scale_factor": SCALE,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": _unet()},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": _vae()},
        "cond_stage_config": {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder", "params": _text()},
    }
    model = {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}
    return _NOTE.format(groups=VAE["norm_num_groups"]) + yaml.safe_dump({"model": model}, sort_keys=False)


def _unet() -> dict[str, object]:
    widths = UNET["block_out_channels"]
    return {
        "image_size": UNET["sample_size"],
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": widths[0],
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": UNET["layers_per_block"],
        "channel_mult": [width // widths[0] for width in widths],
        "num_heads": UNET["attention_head_dim"],
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": WIDTH,
        "use_checkpoint": False,
        "legacy": False,
    }


def _vae() -> dict[str, object]:
    widths = VAE["block_out_channels"]
    ddconfig = {
        "double_z": True,
        "z_channels": 4,
        "resolution": VAE["sample_size"],
        "in_channels": 3,
        "out_ch": 3,
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": VAE["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
        "norm_num_groups": VAE["norm_num_groups"],
    }
    return {"embed_dim": 4, "ddconfig": ddconfig, "lossconfig": {"target": "torch.nn.Identity"}}


def _text() -> dict[str, object]:
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": TEXT["num_hidden_layers"],
        "num_attention_heads": TEXT["num_attention_heads"],
        "intermediate_size": TEXT["intermediate_size"],
        "hidden_act": TEXT["hidden_act"],
        "max_position_embeddings": TOKENS,
        "max_length": TOKENS,
    }
