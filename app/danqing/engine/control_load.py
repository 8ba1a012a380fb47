"""Reads control models from disk for a checkpoint: what kind a file is of is found from its tensors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from danqing.engine.building import fill_parts
from danqing.engine.control import ControlNet, UnionNet
from danqing.engine.control_files import key_of, misfit, named_failures
from danqing.engine.control_loras import add_pairs, prefixed
from danqing.engine.image_prompts import load_prompter
from danqing.engine.t2i import load_adapter
from danqing.library.control_kinds import kind_of
from danqing.library.controls import Control, base_routes, control_routes, lora_pairs, pools
from danqing.library.routes import Routes
from danqing.library.weights import Weights, open_weights

if TYPE_CHECKING:
    from danqing.engine.models import Model

Shapes = dict[str, tuple[int, ...]]

SHARED = (
    "down_block_types",
    "layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "norm_num_groups",
    "transformer_layers_per_block",
    "use_linear_projection",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)
"""Of the UNet's shape, what its ControlNets have too."""

KEPT = 4
"""Control models kept in memory."""


def load_control(control: Control, model: Model) -> Any:
    """Read a control model for a checkpoint, whose UNet's shape says what the file cannot (the number of heads).

    Raises:
        DanqingError: `control_misfit`, `control_broken`, `model_unsafe` and those of reading a file.
    """
    weights = open_weights(control.path)
    match kind_of(control.name, weights.shapes):
        case "controlnet":
            return load_net(control, model, weights)
        case "union":
            return load_union(control, model, weights)
        case "control-lora":
            return load_control_lora(control, model, weights)
        case "t2i-adapter":
            return load_adapter(control, model, weights)
        case "ip-adapter":
            return load_prompter(control, model, weights)


def load_net(control: Control, model: Model, weights: Weights) -> ControlNet:
    """A ControlNet. Errors are those of `load_control`."""
    routes, names = _routes(control, model, weights)
    with named_failures(control):
        module = _meta(model, names, {})
    check_fit(control, model, names, module)
    with named_failures(control):
        fill_parts({"control": module}, weights, routes, model.unet.device, model.unet.dtype)
    return ControlNet(key_of(control, model), hinted(module), names["conv_in.weight"][1], pools(control))


def load_union(control: Control, model: Model, weights: Weights) -> UnionNet:
    """A ControlNet for several kinds of maps. Errors are those of `load_control`."""
    routes, names = _routes(control, model, weights)
    with named_failures(control):
        tasks, width = names["task_embedding"]
        wide = names["control_add_embedding.linear_1.weight"][1]
        shape = {
            "num_control_type": tasks,
            "num_trans_channel": width,
            "num_trans_layer": len({name.split(".")[1] for name in names if name.startswith("transformer_layes.")}),
            "num_proj_channel": names["spatial_ch_projs.weight"][0],
            "addition_time_embed_dim": wide // tasks,
        }
        module = _meta(model, names, shape)
    check_fit(control, model, names, module)
    with named_failures(control):
        fill_parts({"control": module}, weights, routes, model.unet.device, model.unet.dtype)
    return UnionNet(key_of(control, model), hinted(module), names["conv_in.weight"][1], tasks=tasks)


def load_control_lora(control: Control, model: Model, weights: Weights) -> ControlNet:
    """A ControlNet stored as low-rank differences to the UNet that it was trained beside.

    The UNet's own weights come from the checkpoint's file: those in memory may be changed by a prompt's networks just then.
    Errors are those of `load_control`.
    """
    layers = model.architecture.unet.layers
    pairs, own = lora_pairs(weights, layers), control_routes(weights, layers)
    base = open_weights(model.checkpoint.filename)
    rows = base_routes(base, model.architecture, taken={row.route.name for found in own.values() for row in found})
    names = {row.route.name: base.shapes[name] for name, found in rows.items() for row in found}
    names |= {row.route.name: weights.shapes[name] for name, found in own.items() for row in found}
    with named_failures(control):
        module = _meta(model, names, {})
    check_fit(control, model, names, module)
    both = Weights((*prefixed(base, BASE), *prefixed(weights, OWN)))
    routes = {BASE + name: found for name, found in rows.items()} | {OWN + name: found for name, found in own.items()}
    with named_failures(control):
        fill_parts({"control": module}, both, routes, model.unet.device, model.unet.dtype)
        add_pairs(module, weights, pairs)
    return ControlNet(f"{key_of(control, model)}:{model.key}", hinted(module), names["conv_in.weight"][1])


BASE, OWN = "base/", "own/"


def _routes(control: Control, model: Model, weights: Weights) -> tuple[Routes, Shapes]:
    """Where the tensors go, and the shapes of the parameters that they fill."""
    routes = control_routes(weights, model.architecture.unet.layers)
    return routes, {row.route.name: weights.shapes[name] for name, rows in routes.items() for row in rows}


def hinted(module: Any) -> Any:
    """The network with its hint encoder beside it: that runs once for a picture, not at every step."""
    module.hint_encoder = module.controlnet_cond_embedding
    module.controlnet_cond_embedding = nn.Identity()
    return module


def _meta(model: Model, names: Shapes, more: dict[str, Any]) -> Any:
    """The network without numbers. Its levels may be narrower than the UNet's: its outputs are as wide in any case.

    more: further arguments; those of a union make one of it.
    """
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

    config = dict(model.unet.config)
    shared = {key: config[key] for key in SHARED if config.get(key) is not None}
    with torch.device("meta"):
        module = (ControlNetUnionModel if "num_control_type" in more else ControlNetModel)(
            in_channels=names["conv_in.weight"][1],
            block_out_channels=_widths(names, config["block_out_channels"]),
            **_hint_shape(names),
            **{**shared, **_plain(names, config), **more},
        )
        for name, row in (*_outputs(module), ("controlnet_mid_block", module.controlnet_mid_block)):
            wide = names.get(f"{name}.weight")
            if wide is not None and wide[1] == row.in_channels and wide[0] != row.out_channels:
                _replace(module, name, nn.Conv2d(wide[1], wide[0], kernel_size=1))
    return module


def _plain(names: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    """A trunk that has no attention at any level, as the miniature model's ControlNets; {} for all others."""
    if any(".attentions." in name for name in names):
        return {}
    levels = len(config["block_out_channels"])
    return {"down_block_types": ("DownBlock2D",) * levels, "mid_block_type": "UNetMidBlock2D"}


def _outputs(module: Any) -> list[tuple[str, nn.Conv2d]]:
    return [(f"controlnet_down_blocks.{place}", row) for place, row in enumerate(module.controlnet_down_blocks)]


def _replace(module: nn.Module, name: str, row: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, row)


def _widths(names: Shapes, unet: tuple[int, ...]) -> tuple[int, ...]:
    """Channels of the levels, those of the UNet where the file does not say."""
    found = (names.get(f"down_blocks.{level}.resnets.0.conv1.weight") for level in range(len(unet)))
    return tuple(shape[0] if shape else own for shape, own in zip(found, unet, strict=True))


def _hint_shape(names: Shapes) -> dict[str, Any]:
    hint = tuple(
        names[f"controlnet_cond_embedding.blocks.{i}.weight"][0]
        for i in range(1, 20, 2)
        if f"controlnet_cond_embedding.blocks.{i}.weight" in names
    )
    first = names["controlnet_cond_embedding.conv_in.weight"]
    return {"conditioning_channels": first[1], "conditioning_embedding_out_channels": (first[0], *hint)}


def check_fit(control: Control, model: Model, names: Shapes, module: Any) -> None:
    """Whether the file's tensors have the shapes that the checkpoint asks for.

    Raises:
        DanqingError: `control_misfit`, with the first that has not.
    """
    rows = {name: tuple(row.shape) for name, row in module.named_parameters()}
    wrong = [(name, names[name], shape) for name, shape in rows.items() if name in names and shape != names[name]]
    widths = _skips(model)
    given = [names[f"{name}.weight"][0] for name, _ in _outputs(module) if f"{name}.weight" in names]
    if not wrong and given != widths[: len(given)]:
        wrong = [("controlnet_down_blocks", tuple(given), tuple(widths))]
    for name, found, wanted in wrong:
        raise misfit(control, model, f"{name}: {tuple(found)}, {wanted}")


def _skips(model: Model) -> list[int]:
    """Channels of the UNet's skip connections, in order."""
    widths, layers = model.unet.config.block_out_channels, model.unet.config.layers_per_block
    found = [widths[0]]
    for level, width in enumerate(widths):
        found += [width] * (layers + (level < len(widths) - 1))
    return found


class ControlStore:
    """Control models in memory, the least recently used leaves first. Called by threads that load."""

    def __init__(self, most: int = KEPT) -> None:
        self._most, self._lock = most, threading.Lock()
        self._nets: OrderedDict[str, Any] = OrderedDict()

    def get(self, control: Control, model: Model) -> Any:
        """
        Raises:
            DanqingError: as `load_control`.
        """
        # A control-LoRA is completed by its checkpoint's own weights.
        return self.kept(f"{key_of(control, model)}:{model.key}", lambda: load_control(control, model))

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` reads, or has read not long ago."""
        with self._lock:
            if key not in self._nets:
                self._nets[key] = make()
            self._nets.move_to_end(key)
            while len(self._nets) > self._most:
                self._nets.popitem(last=False)
            return self._nets[key]

    def forget(self) -> None:
        """Let go of every network that no picture holds."""
        with self._lock:
            self._nets.clear()
