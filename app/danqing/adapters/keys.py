"""Which tensor of an adapter's file belongs to which module of a model.

Files name a module in many ways: kohya's underscored diffusers paths (`lora_unet_down_blocks_0_attentions_0_…`), the original
Stable Diffusion paths in the same manner (`lora_unet_input_blocks_1_1_…`), dotted diffusers and PEFT paths
(`unet.down_blocks.0.…lora_A.weight`, `base_model.model.…`), the attention processors of early diffusers
(`…attn1.processor.to_q_lora.down.weight`). All of them come down to one underscored path per network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

LEAVES = {
    **{f"lora_{word}.weight": word for word in ("up", "down", "mid")},
    **{f"lora.{word}.weight": word for word in ("up", "down", "mid")},
    **{f"lora_linear_layer.{word}.weight": word for word in ("up", "down")},
    **{f"lora_B{name}.weight": "up" for name in ("", ".default", ".default_0")},
    **{f"lora_A{name}.weight": "down" for name in ("", ".default", ".default_0")},
    **{f"lora_magnitude_vector{name}": "magnitude" for name in ("", ".weight", ".default.weight", ".default")},
    **{"dora_scale": "dora", "alpha": "alpha", "scale": "scale"},
    **{f"hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t1", "t2")},
    **{f"{name}.weight": name for name in ("a1", "a2", "b1", "b2", "bm")},
    **{"weight": "ia3", "on_input": "on_input", "diff": "diff", "diff_b": "diff_b"},
    **{"w_norm": "w_norm", "b_norm": "b_norm"},
    **{"oft_blocks": "oft", "oft_diag": "oft_turned", "rescale": "rescale"},
}
"""The end of a tensor's name, and what it is called here."""

PROCESSOR = re.compile(r"(.+)_lora\.(up|down)\.weight$")
"""diffusers' attention processors, until 0.20."""

PREFIXES = (
    *((f"{word}unet_", "unet") for word in ("lora_", "lycoris_", "oft_", "")),
    *((f"{word}te1_", "te1") for word in ("lora_", "lycoris_", "oft_", "")),
    *((f"{word}te2_", "te2") for word in ("lora_", "lycoris_", "oft_", "")),
    *((f"{word}te_", "te1") for word in ("lora_", "lycoris_", "oft_", "")),
    ("text_encoder_2_", "te2"),
    ("text_encoder_", "te1"),
    ("text_encoders_clip_l_transformer_", "te1"),
    ("text_encoders_clip_g_transformer_", "te2"),
    ("model_diffusion_model_", "unet"),
    ("diffusion_model_", "unet"),
    ("cond_stage_model_transformer_", "te1"),
    ("lycoris_", "unet"),
)
"""How names begin, underscored, and which network that means. The first that fits counts."""

TEXT_LEAVES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
"""Early diffusers named the text encoder's projections as the UNet's."""

RESNET = {
    **{"norm1": "in_layers_0", "conv1": "in_layers_2", "time_emb_proj": "emb_layers_1"},
    **{"norm2": "out_layers_0", "conv2": "out_layers_3", "conv_shortcut": "skip_connection"},
}
"""A residual block's parts in diffusers and in the original code."""

SINGLE = {
    **{"conv_in": "input_blocks_0_0", "conv_norm_out": "out_0", "conv_out": "out_2"},
    **{"time_embedding_linear_1": "time_embed_0", "time_embedding_linear_2": "time_embed_2"},
    **{"add_embedding_linear_1": "label_emb_0_0", "add_embedding_linear_2": "label_emb_0_2"},
}


@dataclass(frozen=True, slots=True)
class Place:
    """A module of a model. network: "unet", "te1" (the first text encoder) or "te2"."""

    network: str
    path: str
    module: nn.Module

    @property
    def part(self) -> str:
        """Whose strength counts: "unet" or "text"."""
        return "unet" if self.network == "unet" else "text"


def split(key: str) -> tuple[str, str] | None:
    """A tensor's name as (what names the module, what the tensor is); None where the end means nothing."""
    early = PROCESSOR.match(key)
    if early and not key.endswith(tuple(f".lora_{word}.weight" for word in ("up", "down", "mid"))):
        return early[1], early[2]
    pieces = key.split(".")
    for count in (3, 2, 1):
        leaf = LEAVES.get(".".join(pieces[-count:]))
        if leaf is not None and len(pieces) > count:
            return ".".join(pieces[:-count]), leaf
    return None


class Places:
    """Finds the modules of one model by any of their names.

    Args:
        unet: diffusers' UNet2DConditionModel.
        encoders: transformers' CLIP text models with what files call them, "te1" or "te2".
    """

    def __init__(self, unet: nn.Module, encoders: Sequence[tuple[str, nn.Module]]) -> None:
        self._table: dict[tuple[str, str], Place] = {}
        for place, names in _unet_names(unet):
            for name in names:
                self._table["unet", name] = place
        for network, encoder in encoders:
            for path, module in _weighted(encoder):
                name = path.removeprefix("text_model.").replace(".", "_")
                self._table.setdefault((network, name), Place(network, path, module))

    def find(self, stem: str) -> Place | None:
        """The module that a file calls `stem`, None where this model has none of that name."""
        name = stem.replace(".", "_").removeprefix("base_model_model_")
        for prefix, network in PREFIXES:
            if name.startswith(prefix):
                found = self._find(network, name.removeprefix(prefix))
                if found is not None:
                    return found
        return self._find("unet", name) or self._find("te1", name)

    def _find(self, network: str, name: str) -> Place | None:
        name = name.replace("_processor_", "_")
        if network != "unet":
            name = name.removeprefix("transformer_").removeprefix("text_model_")
        found = self._table.get((network, name))
        if found is None and network == "unet":
            found = self._table.get((network, name + "_0")) if name.endswith("_to_out") else None
        elif found is None:
            start, _, last = name.rpartition("_to_")
            found = self._table.get((network, f"{start}_{TEXT_LEAVES.get('to_' + last, '')}")) if start else None
        return found


def _weighted(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that have a weight of their own."""
    for path, module in network.named_modules():
        if module._parameters.get("weight") is not None:
            yield path, module


def _unet_names(unet: nn.Module) -> Iterator[tuple[Place, Iterable[str]]]:
    blocks = dict(_original_blocks(unet))
    for path, module in _weighted(unet):
        name = path.replace(".", "_")
        names = [name]
        if name in SINGLE:
            names.append(SINGLE[name])
        pieces = path.split(".")
        for count in (5, 4, 3):
            original = blocks.get(".".join(pieces[:count]))
            if original is not None:
                rest = "_".join(pieces[count:])
                names.append("_".join(piece for piece in (original, RESNET.get(rest, rest)) if piece))
                break
        yield Place("unet", path, module), names


def _original_blocks(unet: nn.Module) -> Iterator[tuple[str, str]]:
    """diffusers' path of each block → the underscored path of the original code, which counts blocks through."""
    number = 1
    for i, block in enumerate(unet.down_blocks):  # type: ignore[arg-type]
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks_{number}_0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks_{number}_1"
            number += 1
        if block.downsamplers:
            yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks_{number}_0_op"
            number += 1
    for path, name in (("resnets.0", "0"), ("attentions.0", "1"), ("resnets.1", "2")):
        yield f"mid_block.{path}", f"middle_block_{name}"
    number = 0
    for i, block in enumerate(unet.up_blocks):  # type: ignore[arg-type]
        attends = getattr(block, "attentions", None) is not None
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks_{number}_0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks_{number}_1"
            number += 1
        if block.upsamplers:
            yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks_{number - 1}_{2 if attends else 1}_conv"
