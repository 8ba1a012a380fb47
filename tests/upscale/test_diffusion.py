"""Diffusion upscalers, with pipelines of random weights in the real layout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import danqing
from danqing.errors import DanqingError
from danqing.upscale import catalog, diffusion, networks

CPU = torch.device("cpu")
CLIP = Path(danqing.__file__).parent / "assets" / "clip"


def text_encoder() -> tuple[Any, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=32,
        vocab_size=49408,
    )
    return CLIPTextModel(config), CLIPTokenizer.from_pretrained(CLIP)


def write_x4(folder: Path) -> None:
    """A folder as of stabilityai/stable-diffusion-x4-upscaler, 32 channels wide."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DDPMScheduler,
        StableDiffusionUpscalePipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=7,
        out_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        num_class_embeds=351,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.08333,
    )
    text, tokenizer = text_encoder()
    StableDiffusionUpscalePipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
    ).save_pretrained(folder)


def write_x2(folder: Path) -> None:
    """A folder as of stabilityai/sd-x2-latent-upscaler."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionLatentUpscalePipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=(32, 32, 64, 64),
        time_cond_proj_dim=160,
        conv_in_kernel=1,
        conv_out_kernel=1,
        cross_attention_dim=32,
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
        in_channels=8,
        out_channels=5,
        mid_block_type=None,
        only_cross_attention=False,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
    )
    text, tokenizer = text_encoder()
    StableDiffusionLatentUpscalePipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(prediction_type="sample"),
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("diffusion")
    write_x2(root / "models" / "ESRGAN" / "sd-x2")
    write_x4(root / "models" / "ESRGAN" / "sd-x4")
    return root


def picture(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], -1).astype(np.uint8)


def test_a_folder_is_one_upscaler(data: Path) -> None:
    row = catalog.find(data, "sd-x4")
    assert (row.kind, row.scale) == ("diffusion", 4.0)
    assert [other.name for other in catalog.upscalers(data)] == ["None", "Lanczos", "Nearest", "sd-x2", "sd-x4"]


@pytest.mark.parametrize(("name", "factor"), [("sd-x4", 4), ("sd-x2", 2)])
def test_pictures_grow_the_same_way_every_time(
    data: Path, name: str, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusion, "STEPS", 2)
    path = catalog.find(data, name).path
    assert path is not None
    one, two = (networks.run(path, picture(70, 40), 64, 8, CPU) for _ in range(2))
    assert one.shape == (40 * factor, 70 * factor, 3)
    assert one.dtype == np.uint8
    assert (one == two).all()


def test_broken_folders_are_named(data: Path, tmp_path: Path) -> None:
    for name, text in (
        ("empty", "{}"),
        ("other", '{"_class_name": "StableDiffusionPipeline"}'),
        ("bare", "["),
        ("foreign", '{"_class_name": "StableDiffusionUpscalePipeline", "unet": ["antigravity", "x"]}'),
    ):
        folder = tmp_path / "models" / "ESRGAN" / name
        folder.mkdir(parents=True)
        (folder / "model_index.json").write_text(text)
        with pytest.raises(DanqingError) as caught:
            networks.run(folder, picture(8, 8), 0, 0, CPU)
        assert caught.value.code == "model_broken"
        assert caught.value.params["name"] == name
    assert [row.name for row in catalog.upscalers(tmp_path)[3:]] == ["foreign"], "only upscalers are listed"
    assert "antigravity" not in sys.modules
