"""Networks with random weights for `bench.gpu`, on any device: SD 1.5's shapes, or the same thing small."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.overhead import SD15
from danqing.engine import building, models
from danqing.engine.control import ControlNet, NetHint
from danqing.engine.device import DeviceClass, prepared
from danqing.engine.schedules import ModelSigmas, linear_alphas
from danqing.library.architecture import Architecture
from danqing.library.index import Checkpoint
from danqing.library.shapes import TextShape, UnetShape, VaeShape

SMALL = Architecture(
    unet=UnetShape(4, (32, 64), (True, False), 1, 2, 64, 8),
    vae=VaeShape((16, 32, 32, 32), 1, 8),
    texts=(TextShape(64, 2, 2, 128, 49408, 77, "quick_gelu"),),
)

PEAKS = {
    "T4": 65,
    "V100": 125,
    "A10": 125,
    "A100": 312,
    "A800": 312,
    "L4": 121,
    "L40S": 362,
    "RTX 3090": 71,
    "RTX 4090": 165,
    "H100": 989,
    "H200": 989,
}
"""Dense float16 TFLOP/s with float32 sums by the vendor's data sheets (A10: 125; its sums in float32 reach 70)."""


@dataclass(frozen=True)
class Place:
    """Where and what is measured: device, format, and the sides of pictures."""

    device: torch.device
    dtype: torch.dtype
    row: DeviceClass
    architecture: Architecture
    side: int
    sides: tuple[int, ...]
    batches: tuple[int, ...]
    steps: int
    repeats: int


def peak_of(name: str) -> float | None:
    """TFLOP/s of a card by its name, None where it is not in the table. The longest name that fits wins: L40S is no L4."""
    fitting = [key for key in PEAKS if key in name]
    return PEAKS[max(fitting, key=len)] if fitting else None


def filled(network: Any, place: Place) -> Any:
    """A network of the meta device with random numbers, small enough that nothing overflows."""
    network = torch.nn.Module.to(network, place.dtype).to_empty(device=place.device).eval().requires_grad_(False)
    block = torch.randn(2**20, device=place.device) * 0.02
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.fill_(1)
                continue
            # One block over and over: fresh noise for a billion numbers takes half a minute on a CPU.
            for piece in parameter.view(-1).split(len(block)):
                piece.copy_(block[: len(piece)])
    for name, buffer in network.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return prepared(network, place.row)


def random_model(place: Place) -> models.Model:
    """A checkpoint of the place's architecture in memory."""
    architecture = place.architecture
    checkpoint = Checkpoint("random", Path("random"), None, None, place.side, "")
    text = filled(building.meta_text(architecture.texts[0]), place)
    hashed: Future[str] = Future()
    hashed.set_result("0" * 64)
    return models.Model(
        checkpoint,
        architecture,
        filled(building.meta_unet(architecture.unet), place),
        filled(building.meta_vae(architecture.vae, architecture.scale), place),
        (models.TextEncoder("clip_l", text, building.END),),
        ModelSigmas(linear_alphas()),
        (torch.zeros(4, 3), torch.zeros(3)),
        hashed,
    )


def random_control(model: models.Model, place: Place) -> NetHint:
    """A ControlNet of the model's shape, and a hint for it."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    with torch.device("meta"):
        net = ControlNetModel.from_unet(building.meta_unet(place.architecture.unet), load_weights_from_unet=False)
    net = filled(net, place)
    net.hint_encoder = net.controlnet_cond_embedding
    net.controlnet_cond_embedding = torch.nn.Identity()
    control = ControlNet("random", net, 4)
    return NetHint(control, torch.rand(3, place.side, place.side), (1.0,) * control.outputs)


def step_tflop(place: Place, side: int) -> float:
    """10^12 operations of a step of one picture with guidance: two rows of the UNet. Counted, not run."""
    unet = building.meta_unet(place.architecture.unet).to(torch.float16)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(
            torch.empty(2, 4, side // 8, side // 8, device="meta", dtype=torch.float16),
            torch.empty(2, device="meta"),
            encoder_hidden_states=torch.empty(
                2, 77, place.architecture.unet.context, device="meta", dtype=torch.float16
            ),
            return_dict=False,
        )
    return float(counter.get_total_flops()) / 1e12


def place_of(device: torch.device, dtype: torch.dtype, row: DeviceClass, *, small: bool) -> Place:
    """SD 1.5 at 512 pixels as it is measured, or the small network for a look whether everything runs."""
    if small:
        return Place(device, dtype, row, SMALL, 64, (96, 128), (1, 2), 3, 1)
    return Place(device, dtype, row, SD15, 512, (768, 1024, 2048), (1, 2, 4, 8, 16), 20, 3)


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device, run: Callable[[], object]) -> float | None:
    """GB that `run` needs at most on a GPU, weights included; None elsewhere."""
    if device.type != "cuda":
        run()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) / 1e9
