"""Small networks of the true layout with random weights, and adapter files for them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from danqing import torchvision_shim as torchvision_shim  # before diffusers and transformers
from danqing.engine.calls import Adapter

WIDTHS = (32, 64)
CONTEXT = 24


def make_unet(seed: int = 0, linear: bool = False, depth: int = 1, layers: int = 2) -> Any:
    """diffusers' UNet of SD 1.x in small: a level that attends to the text and one that does not."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=WIDTHS,
        layers_per_block=layers,
        attention_head_dim=4,
        cross_attention_dim=CONTEXT,
        norm_num_groups=8,
        use_linear_projection=linear,
        transformer_layers_per_block=depth,
    )
    return unet.eval().requires_grad_(False)


def make_text(seed: int = 1, width: int = CONTEXT, projection: bool = False) -> Any:
    """transformers' CLIP text model in small."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=48,
        eos_token_id=49,
    )
    maker = CLIPTextModelWithProjection if projection else CLIPTextModel
    return maker(config).eval().requires_grad_(False)


@dataclass
class SmallModel:
    """What patching wants of a model."""

    unet: Any = field(default_factory=make_unet)
    encoders: tuple[Any, ...] = field(
        default_factory=lambda: (SimpleNamespace(kind="clip_l", module=make_text(), pad=49),)
    )
    checkpoint: Any = field(default_factory=lambda: SimpleNamespace(name="small"))

    @property
    def text(self) -> Any:
        return self.encoders[0].module


X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
C = torch.randn(2, 7, CONTEXT, generator=torch.Generator().manual_seed(3))
TOKENS = torch.tensor([[48, 3, 9, 27, 49, 49], [48, 11, 2, 49, 49, 49]])


@torch.no_grad()
def predict(unet: Any) -> torch.Tensor:
    """The UNet's answer to one fixed question."""
    out: torch.Tensor = unet(X, torch.tensor([500.0, 20.5]), encoder_hidden_states=C, return_dict=False)[0]
    return out


@torch.no_grad()
def read(text: Any) -> torch.Tensor:
    """The text encoder's answer to one fixed question."""
    out: torch.Tensor = text(input_ids=TOKENS).last_hidden_state
    return out


def normal(*shape: int, seed: int = 0, scale: float = 0.3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def with_weights(network: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """A copy of the network with these parameters replaced."""
    other = copy.deepcopy(network)
    table = dict(other.named_parameters())
    for name, value in weights.items():
        assert table[name].shape == value.shape, name
        table[name].data = value.to(table[name].dtype)
    return other


def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path, metadata=metadata)
    return path


def lora(path: Path, text: float = 1.0, unet: float = 1.0, rank: int = 0) -> Adapter:
    return Adapter("lora", path, text, unet, path.stat().st_mtime_ns, rank)


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float = 2e-6) -> bool:
    """Within float32's rounding of a whole forward."""
    return float((one - other).norm() / other.norm()) < tolerance
