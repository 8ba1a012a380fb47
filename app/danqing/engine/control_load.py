"""Reads control models from disk for a checkpoint: what kind a file is of is found from its tensors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from danqing.engine.building import fill_parts
from danqing.engine.control import ControlNet
from danqing.errors import DanqingError
from danqing.library.controls import Control, control_routes
from danqing.library.index import stamp_of
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
        DanqingError: `control_misfit`, `control_broken`, and those of reading a file.
    """
    return load_net(control, model, open_weights(control.path))


def load_net(control: Control, model: Model, weights: Weights) -> ControlNet:
    """A ControlNet. Errors are those of `load_control`."""
    routes = control_routes(weights, model.architecture.unet.layers)
    names = {row.route.name: weights.shapes[name] for name, rows in routes.items() for row in rows}
    if "controlnet_mid_block.weight" not in names:
        raise DanqingError("control_broken", name=control.name, reason="the file holds no ControlNet")
    module = _meta(model, names)
    check_fit(control, model, names, module)
    with named_failures(control):
        fill_parts({"control": module}, weights, routes, model.unet.device, model.unet.dtype)
    return _finished(control, model, names, module)


def _finished(control: Control, model: Model, names: Shapes, module: Any) -> ControlNet:
    # The encoder runs once for a picture, not at every step: the network itself is given what it made.
    module.hint_encoder = module.controlnet_cond_embedding
    module.controlnet_cond_embedding = nn.Identity()
    return ControlNet(key_of(control, model), module, names["conv_in.weight"][1])


@contextmanager
def named_failures(control: Control) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes `control_broken`."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise DanqingError("control_broken", name=control.name, reason=reason) from error


def key_of(control: Control, model: Model) -> str:
    """A file in one state, for models of one shape."""
    return f"{control.path}:{stamp_of(control.path)}:{model.architecture.unet}"


def _meta(model: Model, names: Shapes) -> Any:
    """The network without numbers. Its levels may be narrower than the UNet's: its outputs are as wide in any case."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    config = dict(model.unet.config)
    with torch.device("meta"):
        module = ControlNetModel(
            in_channels=names["conv_in.weight"][1],
            block_out_channels=_widths(names, config["block_out_channels"]),
            **_hint_shape(names),
            **{key: config[key] for key in SHARED if config.get(key) is not None} | _plain(names, config),
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
        reason = f"{name}: {tuple(found)}, {wanted}"
        raise DanqingError("control_misfit", name=control.name, model=model.checkpoint.name, reason=reason)


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
        key = key_of(control, model)
        with self._lock:
            if key not in self._nets:
                self._nets[key] = load_control(control, model)
            self._nets.move_to_end(key)
            while len(self._nets) > self._most:
                self._nets.popitem(last=False)
            return self._nets[key]

    def forget(self) -> None:
        """Let go of every network that no picture holds."""
        with self._lock:
            self._nets.clear()
