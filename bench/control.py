"""Control units on SD 1.5's shape: agreement with diffusers' pipeline, and what a UNet step costs with each kind and number.

Random weights, the zero convolutions' too, of a size that lets control move the picture. Float32 on the CPU. Preprocessors are
measured by `python -m bench.control_maps`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bench.control_maps import memory
from bench.overhead import random_sd15
from bench.report import Cell, show
from danqing.engine import unet
from danqing.engine.calls import Call, Encode, Row, Track
from danqing.engine.conditioning import Conditionings, conditionings
from danqing.engine.control import ControlNet, NetHint, Units, layer_weights
from danqing.engine.control_load import load_control
from danqing.engine.guidance import Guide
from danqing.engine.image_prompts import ImageHint, ImagePrompter, cross_attentions
from danqing.engine.models import Model
from danqing.engine.noise import PictureNoise
from danqing.engine.reference import ReferenceHint
from danqing.engine.runner import Runner
from danqing.engine.sampling import ModelView, SampleSpec, sample
from danqing.engine.scheduler import Kind
from danqing.engine.t2i import Adapter, FeatureHint
from danqing.library.controls import Control
from danqing.request import ControlUnit, GenerateRequest

WEIGHTS = (0.9, 0.6)
REPEATS = 3
CPU = torch.device("cpu")


def lively(module: Any, seed: int, gain: float = 1.0) -> Any:
    """The module with weights that keep signals alive, from one block of noise over and over."""
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(seed))
    for name, value in module.named_parameters():
        if value.ndim < 2:
            value.data.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        scale = gain / value[0].numel() ** 0.5
        for piece in value.data.view(-1).split(len(block)):
            piece.copy_(block[: len(piece)] * scale)
    return module.eval().requires_grad_(False)


def controlnet(model: Model) -> Any:
    """diffusers' ControlNet for the model, its first half a copy of the UNet's, the rest random."""
    from diffusers import ControlNetModel

    net = ControlNetModel.from_unet(model.unet, load_weights_from_unet=False)
    lively(net, 1)
    net.load_state_dict(
        {name: value for name, value in model.unet.state_dict().items() if not name.startswith(("up_", "conv_"))},
        strict=False,
    )
    return net


def driven(plan: Generator[Call, Any, Any], runner: Runner) -> Any:
    """A plan's answer, its calls run one by one."""
    answer = None
    try:
        while True:
            call = plan.send(answer)
            if isinstance(call, Encode):
                answer = runner.run(Kind.ENCODE, [call])[0]
            else:
                answer = runner.run(Kind.DENOISE, [(call, list(call.rows))])[0]  # type: ignore[union-attr]
    except StopIteration as stop:
        return stop.value


def pixels(seed: int, side: int) -> torch.Tensor:
    """(3, side, side) float32 in 0..1: soft blots."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0].clamp(0, 1)


def ours(request: GenerateRequest, model: Model, found: Conditionings, hints: list[NetHint], runner: Runner) -> Any:
    """The final latent of the engine's own plan, (4, h, w)."""
    rows = [(ControlUnit(weight=hint.weights[0]), hint) for hint in hints]
    guide = Guide(request, model, found, size=(request.width, request.height), hints=Units(rows) if rows else None)
    shape = (4, request.height // 8, request.width // 8)
    spec = SampleSpec(request.sampler, request.scheduler, request.steps, ModelView(model.sigmas), shape)
    noise = PictureNoise(request.rng, request.seed)
    return driven(sample(spec, guide.predict, noise, Track(request.steps)), runner)


@torch.no_grad()
def theirs(request: GenerateRequest, model: Model, found: Conditionings, net: Any, count: int) -> torch.Tensor:
    """The final latent of StableDiffusionControlNetPipeline, (4, h, w)."""
    from diffusers import EulerDiscreteScheduler, MultiControlNetModel, StableDiffusionControlNetPipeline

    made = StableDiffusionControlNetPipeline(
        vae=None,
        text_encoder=model.text,
        tokenizer=None,
        unet=model.unet,
        controlnet=net if count == 1 else MultiControlNetModel([net] * count),
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    shown = [pixels(place, request.width)[None] for place in range(count)]
    moment = found.at(0)
    done = made(
        prompt_embeds=moment.parts[0][0].context[None],
        negative_prompt_embeds=moment.uncond.context[None],
        image=shown[0] if count == 1 else shown,
        controlnet_conditioning_scale=WEIGHTS[0] if count == 1 else list(WEIGHTS[:count]),
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        latents=PictureNoise(request.rng, request.seed).first((4, request.height // 8, request.width // 8))[None],
        output_type="latent",
    )
    latent: torch.Tensor = done.images[0]
    return latent


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def agreement(model: Model, net: Any, control: ControlNet, side: int, steps: int) -> list[dict[str, Cell]]:
    """Relative distances with one unit and with two."""
    request = GenerateRequest(
        prompt="a cat",
        negative_prompt="a dog",
        sampler="Euler",
        steps=steps,
        width=side,
        height=side,
        seed=1,
        rng="CPU",
    )
    runner, rows = Runner(CPU), []
    texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    found = driven(conditionings(request, model, steps, **texts), runner)
    plain = ours(request, model, found, [], runner)
    for count in (1, 2):
        hints = [
            NetHint(control, pixels(place, side), layer_weights(ControlUnit(weight=WEIGHTS[place]), control.outputs))
            for place in range(count)
        ]
        latent = ours(request, model, found, hints, runner)
        peer = theirs(request, model, found, net, count)
        rows.append(
            {"units": str(count), "side": side, "steps": steps}
            | {"relative error": apart(latent, peer), "moved by control": apart(latent, plain)}
        )
    return rows


def kinds(model: Model, control: ControlNet, side: int) -> dict[str, Callable[[], tuple[Any, ...]]]:
    """What a row is controlled by, made when its turn comes."""
    from diffusers import T2IAdapter

    shape = (4, side // 8, side // 8)

    def nets(count: int) -> tuple[Any, ...]:
        weights = (1.0,) * control.outputs
        return tuple(NetHint(control, pixels(place, side), weights) for place in range(count))

    def adapter() -> tuple[Any, ...]:
        made = Adapter("t2i", lively(T2IAdapter(), 2), 3, 8, 4)
        return (FeatureHint(made, pixels(0, side), (1.0,) * 4),)

    def prompter() -> tuple[Any, ...]:
        places = cross_attentions(model.unet)
        pairs = tuple((place.to_k.weight.clone(), place.to_v.weight.clone()) for place in places)
        tokens = torch.randn(4, model.unet.config.cross_attention_dim)
        return (ImageHint(ImagePrompter("ip", None, pairs, False, 1024), tokens, tokens, (1.0,)),)

    def reference() -> tuple[Any, ...]:
        return (ReferenceHint(torch.randn(shape), True, False, 0.5, 1, (1.0,)),)

    return {
        "none": tuple,
        "1 ControlNet": lambda: nets(1),
        "2 ControlNets": lambda: nets(2),
        "3 ControlNets": lambda: nets(3),
        "T2I-Adapter": adapter,
        "IP-Adapter": prompter,
        "reference_only": reference,
    }


@torch.inference_mode()
def cost(model: Model, control: ControlNet, side: int) -> list[dict[str, Cell]]:
    """Seconds and memory of one step with guidance: two rows."""
    x, context = torch.randn(4, side // 8, side // 8), torch.randn(77, model.unet.config.cross_attention_dim)
    rows: list[dict[str, Cell]] = []
    for name, make in kinds(model, control, side).items():
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the most memory counts from here on
        hints, wall, work = make(), [], []
        for _ in range(REPEATS + 1):
            begin, began = time.perf_counter(), time.process_time()
            unet.eager(unet.batch_of(model, [Row(x, 500.0, context, None, hints)] * 2, CPU))
            wall.append(time.perf_counter() - begin)
            work.append(time.process_time() - began)
        # What the processor did: other work on the machine moves it less than the clock.
        step = min(work[1:])
        plain = float(rows[0]["step CPU ms"] or 0) / 1000 if rows else step
        rows.append(
            {"control": name, "side": side, "first step CPU ms": 1000 * work[0], "step CPU ms": 1000 * step}
            | {"step ms": 1000 * statistics.median(wall[1:]), "times the bare step": step / plain}
            | {"peak MB above the models": round(memory("VmHWM") - before)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.control", description=__doc__)
    parser.add_argument("--side", type=int, default=256, help="pixels a side")
    parser.add_argument("--steps", type=int, default=4, help="steps of the comparison; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = random_sd15()
    lively(model.unet, 0)
    net = controlnet(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
        control = load_control(Control("net", path, ""), model)
    notes = ["Weights of SD 1.5's shape, random. The file of 1.4 GB is read by the engine's own loader."]
    more: dict[str, Any] = {}
    if options.steps:
        more["agreement"] = agreement(model, net, control, options.side, options.steps)
        show("control_agreement", "Agreement with StableDiffusionControlNetPipeline", more["agreement"], notes)
    del net
    notes = [
        "A step with guidance: two rows. The first step runs the hint encoder or the adapter too. The ControlNets of one "
        "row are one network in memory (1.4 GB); memory is that of the step and of what the row alone needs."
    ]
    show("control", "Control units", cost(model, control, options.side), notes, **more)


if __name__ == "__main__":
    main()
