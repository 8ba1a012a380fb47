"""ControlNets against diffusers' StableDiffusionControlNetPipeline, and the control modes against their formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from danqing.gallery import inputs
from danqing.request import ControlUnit
from tests.parity.fixture import make

from .conftest import Bench
from .peers import BASE, STEPS, apart, drawn, model_of, noise, parts, photograph, randomised, scheduler

NAMES = ("peer_a", "peer_b")
WEIGHTS = (0.9, 0.6)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(make(tmp_path_factory.mktemp("control-peer")), engine_gain=10.0)


@pytest.fixture(scope="module")
def nets(bench: Bench) -> tuple[Any, ...]:
    """Two ControlNets of diffusers with random weights, and their files in diffusers' layout in the engine's data root."""
    from diffusers import ControlNetModel

    folder = bench.workshop.studio.controls.folder
    found = []
    for seed, name in enumerate(NAMES):
        unet = model_of(bench).unet
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64, 96))
        rows = {
            key: value
            for key, value in randomised(net, seed, 0.8).state_dict().items()
            if key.startswith("controlnet_")
        }
        net.load_state_dict({**net.state_dict(), **unet.state_dict(), **rows}, strict=False)
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, folder / f"{name}.safetensors")
        found.append(net)
    return tuple(found)


def units(bench: Bench, count: int, **fields: object) -> tuple[ControlUnit, ...]:
    data = bench.workshop.studio.data
    return tuple(
        ControlUnit(
            model=NAMES[place],
            image=inputs.keep_image(data, photograph(place)),
            weight=WEIGHTS[place],
            save_detected_map=False,
            **fields,
        )
        for place in range(count)
    )


def ours(bench: Bench, control: tuple[ControlUnit, ...]) -> torch.Tensor:
    bench.latents.clear()
    done = bench.draw(a=BASE.model_copy(update={"control": control}))["a"]
    assert done.error is None, done.error
    return bench.latents[-1]


@pytest.mark.parametrize("count", [1, 2])
def test_the_latents_are_those_of_diffusers_pipeline(bench: Bench, nets: tuple[Any, ...], count: int) -> None:
    from diffusers import MultiControlNetModel, StableDiffusionControlNetPipeline

    net = nets[0] if count == 1 else MultiControlNetModel(list(nets))
    pipeline = StableDiffusionControlNetPipeline(controlnet=net, **parts(model_of(bench)))
    pictures, weights = [photograph(place) for place in range(count)], list(WEIGHTS[:count])
    theirs = drawn(
        pipeline,
        BASE,
        image=pictures[0] if count == 1 else pictures,
        controlnet_conditioning_scale=weights[0] if count == 1 else weights,
    )
    found = ours(bench, units(bench, count))
    assert apart(found, theirs) < 1e-3
    assert apart(found, ours(bench, ())) > 0.1


@torch.no_grad()
def by_formula(bench: Bench, nets: tuple[Any, ...], mode: str) -> torch.Tensor:
    """The mode as docs/control.md writes it down, with diffusers' networks, step by step.

    eps(c) = UNet(x, c, sum over units of r), r_i = w_i * out_i(x, c) for outputs i = 0..12, the middle last;
    w_i = w (balanced) or w * 0.825^(12 - i) (a side is more important); r = 0 for the negative prompt where control is more
    important. eps = eps(negative) + cfg * (eps(prompt) - eps(negative)).
    """
    import numpy as np

    model, steps = model_of(bench), scheduler()
    steps.set_timesteps(STEPS)
    embedded = []
    made = parts(model)
    for text in (BASE.prompt, BASE.negative_prompt):
        ids = made["tokenizer"](text, padding="max_length", max_length=77, return_tensors="pt").input_ids
        embedded.append(model.text(ids)[0])
    pictures = [
        torch.from_numpy(np.array(photograph(place))).float().permute(2, 0, 1)[None] / 255 for place in range(len(nets))
    ]
    soft = [1.0] * 13 if mode == "Balanced" else [0.825 ** (12 - i) for i in range(13)]

    def said(x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, silent: bool) -> torch.Tensor:
        sums: list[Any] = [0] * 13
        for net, picture, weight in zip(nets, pictures, WEIGHTS, strict=False):
            down, middle = net(x, t, encoder_hidden_states=context, controlnet_cond=picture, return_dict=False)
            for i, out in enumerate((*down, middle)):
                sums[i] = sums[i] + out * (0.0 if silent else weight * soft[i])
        found: torch.Tensor = model.unet(
            x,
            t,
            encoder_hidden_states=context,
            down_block_additional_residuals=tuple(sums[:12]),
            mid_block_additional_residual=sums[12],
            return_dict=False,
        )[0]
        return found

    x = noise(BASE) * steps.init_noise_sigma
    for t in steps.timesteps:
        scaled = steps.scale_model_input(x, t)
        with_prompt = said(scaled, t, embedded[0], False)
        without = said(scaled, t, embedded[1], mode == "ControlNet is more important")
        x = steps.step(without + BASE.cfg_scale * (with_prompt - without), t, x).prev_sample
    return x[0]


@pytest.mark.parametrize(
    ("mode", "count"),
    [("Balanced", 2), ("My prompt is more important", 1), ("ControlNet is more important", 2)],
)
def test_control_modes_are_their_formula(bench: Bench, nets: tuple[Any, ...], mode: str, count: int) -> None:
    found = ours(bench, units(bench, count, control_mode=mode))
    assert apart(found, by_formula(bench, nets[:count], mode)) < 1e-3
