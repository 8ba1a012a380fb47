"""What kind of control model a file holds, found from its tensors, and where the tensors of each kind go. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from danqing.errors import DanqingError

Kind = Literal["controlnet", "control-lora", "union", "t2i-adapter", "ip-adapter"]
Shapes = Mapping[str, tuple[int, ...]]

WRAPPER = "control_model."
"""What the original's checkpoints put before a ControlNet's names."""

OTHERS: tuple[tuple[str, str], ...] = (
    ("id_encoder.", "it is a PuLID model, which needs a face recogniser"),
    ("perceiver_resampler.", "it is an IP-Adapter FaceID, which needs a face recogniser"),
    ("style_embedding", "it is a T2I style adapter"),
    ("motion_modules.", "it is a motion module"),
    ("model.diffusion_model.", "it is a checkpoint; it belongs into models/Stable-diffusion"),
    ("lora_unet_", "it is a LoRA; it belongs into models/Lora"),
)
"""What in a tensor's name gives away a kind that cannot be used here."""

KNOWN = "ControlNets, control-LoRAs, ControlNet unions, T2I-Adapters and IP-Adapters can be used"

SKETCH = {64: (1, 8), 192: (3, 8), 256: (1, 16), 768: (3, 16)}
"""Channels behind a T2I-Adapter's pixel unshuffle → channels of its picture, and by how much a side shrinks."""

_FULL = re.compile(r"body\.(\d+)\.(in_conv|block1|block2)\.(weight|bias)")
_LIGHT = re.compile(r"body\.(\d+)\.body\.(\d+)\.(block1|block2)\.(weight|bias)")
BLOCKS = 2
"""Residual blocks a level of the T2I-Adapters in the original's layout."""

FACE_WIDTH = 512
"""Width of a face recogniser's vector, which the IP-Adapters that want one are known by."""


def kind_of(name: str, shapes: Shapes) -> Kind:
    """The kind of a file's model.

    Args:
        name: what to call the file in an error.
        shapes: tensor name → shape; tables inside tables as `outer.inner`.

    Raises:
        DanqingError: `control_broken`, which says what the file seems to be.
    """
    bare = {key.removeprefix(WRAPPER) for key in shapes}
    if "lora_controlnet" in bare or any(key.startswith("input_blocks.") and key.endswith(".up") for key in bare):
        return "control-lora"
    if "controlnet_mid_block.weight" in bare or "middle_block_out.0.weight" in bare:
        return "union" if "task_embedding" in bare else "controlnet"
    if _adapter_body({key.removeprefix("adapter.") for key in bare}):
        return "t2i-adapter"
    if any(key.startswith("image_proj.") for key in bare) and any(key.startswith("ip_adapter.") for key in bare):
        if reason := _face(shapes):
            raise DanqingError("control_broken", name=name, reason=reason)
        return "ip-adapter"
    reason = next((what for sign, what in OTHERS if any(sign in key for key in bare)), "it holds no control model")
    raise DanqingError("control_broken", name=name, reason=f"{reason}; {KNOWN}")


def _adapter_body(names: Iterable[str]) -> bool:
    return any(_FULL.fullmatch(name) or _LIGHT.fullmatch(name) or name.startswith("body.0.resnets.") for name in names)


def _face(shapes: Shapes) -> str:
    first = shapes.get("image_proj.proj.0.weight") or shapes.get("image_proj.proj_in.weight") or (0, 0)
    faces = first[-1] == FACE_WIDTH or any("perceiver_resampler." in key for key in shapes)
    return f"it wants the vectors of a face recogniser, which is not built in; {KNOWN}" if faces else ""


class AdapterShape(NamedTuple):
    """A T2I-Adapter as diffusers' `T2IAdapter` is told of it; `kind`: "full_adapter", "full_adapter_xl", "light_adapter"."""

    kind: str
    in_channels: int
    channels: tuple[int, ...]
    blocks: int
    factor: int


def adapter_names(shapes: Shapes) -> dict[str, str]:
    """A T2I-Adapter file's names → diffusers' names below `T2IAdapter`.

    The original's full adapters count blocks where diffusers counts levels; its light ones count levels too.
    """
    bare_names = {name: name.removeprefix("adapter.") for name in shapes}
    flat = "body.0.block1.weight" in bare_names.values()
    return {name: "adapter." + (_flat_name(bare) if flat else _level_name(bare)) for name, bare in bare_names.items()}


def _flat_name(name: str) -> str:
    found = _FULL.fullmatch(name)
    if found is None:
        return name
    level, block = divmod(int(found[1]), BLOCKS)
    inner = "in_conv" if found[2] == "in_conv" else f"resnets.{block}.{found[2]}"
    return f"body.{level}.{inner}.{found[3]}"


def _level_name(name: str) -> str:
    found = _LIGHT.fullmatch(name)
    return name if found is None else f"body.{found[1]}.resnets.{found[2]}.{found[3]}.{found[4]}"


def adapter_shape(names: Mapping[str, tuple[int, ...]]) -> AdapterShape:
    """The shape of a T2I-Adapter from its tensors under diffusers' names.

    Raises:
        KeyError, ValueError: for what is none.
    """
    levels = 1 + max(int(name.split(".")[2]) for name in names if name.startswith("adapter.body."))
    blocks = 1 + max(int(name.split(".")[4]) for name in names if name.startswith("adapter.body.0.resnets."))
    light = "adapter.body.0.out_conv.weight" in names
    seen = names["adapter.body.0.in_conv.weight" if light else "adapter.conv_in.weight"][1]
    if seen not in SKETCH:
        raise ValueError(f"an adapter that sees {seen} channels")
    in_channels, factor = SKETCH[seen]
    if light:
        channels = tuple(names[f"adapter.body.{level}.out_conv.weight"][0] for level in range(levels - 1))
        return AdapterShape("light_adapter", in_channels, channels, blocks, factor)
    channels = tuple(names[f"adapter.body.{level}.resnets.0.block1.weight"][0] for level in range(levels))
    return AdapterShape("full_adapter" if factor == 8 else "full_adapter_xl", in_channels, channels, blocks, factor)


class EncoderShape(NamedTuple):
    """A CLIP image encoder. `side`, `patch`: pixels of the picture and of a patch. `projection`: width of its vector."""

    width: int
    inner: int
    layers: int
    heads: int
    activation: str
    side: int
    patch: int
    projection: int


CLIP_L_WIDTH = 1024
"""Of OpenAI's large encoder, the only one of the three in use whose activation is another."""
CLIP_HEADS = 16
"""Of all three."""


def encoder_shape(shapes: Shapes, config: Mapping[str, Any]) -> EncoderShape | None:
    """A CLIP image encoder in transformers' layout; None for what is none.

    Args:
        config: the `config.json` beside the file, for heads and activation, which tensors do not tell.
    """
    prefix = "vision_model."
    try:
        width = shapes[prefix + "embeddings.class_embedding"][0]
        patch = shapes[prefix + "embeddings.patch_embedding.weight"][-1]
        places = shapes[prefix + "embeddings.position_embedding.weight"][0]
        inner = shapes[prefix + "encoder.layers.0.mlp.fc1.weight"][0]
        projection = shapes["visual_projection.weight"][0]
    except (KeyError, IndexError):
        return None
    layers = len({name.split(".")[3] for name in shapes if name.startswith(prefix + "encoder.layers.")})
    heads = config.get("num_attention_heads")
    activation = config.get("hidden_act") or ("quick_gelu" if width == CLIP_L_WIDTH else "gelu")
    return EncoderShape(
        width,
        inner,
        layers,
        heads if isinstance(heads, int) and heads > 0 and width % heads == 0 else CLIP_HEADS,
        str(activation),
        round((places - 1) ** 0.5) * patch,
        patch,
        projection,
    )
