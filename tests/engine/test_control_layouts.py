"""ControlNets of every kind, family and layout: what is read from a file does what diffusers' own network does."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from danqing.engine.control import ControlNet, NetHint
from danqing.engine.control_rows import Step
from danqing.engine.models import Model
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.library.controls import Controls, control_name
from danqing.request import ControlUnit, GenerateRequest

from ..library import layouts
from .conftest import Bench
from .peers import apart, model_of, photograph, randomised

FAMILIES = {"sd1": layouts.SD1, "sd2": layouts.SD2, "sdxl": layouts.SDXL}
HINT = (16, 32, 32, 64)
RANK = 4
UNET = "model.diffusion_model."
SIDE = 8
"""Of the latents, so that the deepest level is one pixel."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    data = tmp_path_factory.mktemp("control-layouts")
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    (data / "models" / "ControlNet").mkdir()
    for name, layout in FAMILIES.items():
        real = dataclasses.replace(layout, vocabulary=49408)
        save_file(layouts.tensors(real), folder / f"{name}.safetensors")
        (folder / f"{name}.yaml").write_text(layouts.yaml(real, "v" if name == "sd2" else None))
    return Bench(data, engine_gain=10.0)


def net_of(model: Model, seed: int) -> Any:
    """diffusers' ControlNet for the model's UNet, every weight random."""
    from diffusers import ControlNetModel

    net = ControlNetModel.from_unet(model.unet, conditioning_embedding_out_channels=HINT, load_weights_from_unet=False)
    return randomised(net, seed)


def ldm_names(bench: Bench, family: str, model: Model) -> dict[str, str]:
    """diffusers' names → the original code's, which the checkpoint has for the UNet."""
    file = bench.workshop.studio.data / "models" / "Stable-diffusion" / f"{family}.safetensors"
    layers = model.architecture.unet.layers
    names = (name.removeprefix(UNET) for name in load_file(file) if name.startswith(UNET))
    found = {control_name(name, layers): name for name in names if not name.startswith(("output_blocks.", "out."))}
    for part in ("weight", "bias"):
        for place in range(40):
            found[f"controlnet_down_blocks.{place}.{part}"] = f"zero_convs.{place}.0.{part}"
        found[f"controlnet_mid_block.{part}"] = f"middle_block_out.0.{part}"
        hint = "controlnet_cond_embedding"
        found[f"{hint}.conv_in.{part}"], found[f"{hint}.conv_out.{part}"] = (
            f"input_hint_block.{place}.{part}" for place in (0, 14)
        )
        for place in range(6):
            found[f"{hint}.blocks.{place}.{part}"] = f"input_hint_block.{2 + 2 * place}.{part}"
    return {str(ours): theirs for ours, theirs in found.items()}


def step_of(model: Model, rows: int = 2) -> Step:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    config, added = model.unet.config, None
    if model.family == "sdxl":
        width = model.encoders[-1].module.config.projection_dim
        added = {"text_embeds": draw(rows, width), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * rows)}
    context = draw(rows, 77, config.cross_attention_dim)
    return Step(model, draw(rows, 4, SIDE, SIDE), torch.tensor([800.0, 30.0][:rows]), context, added)


def pixels() -> torch.Tensor:
    return torch.rand(3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def ours(bench: Bench, model: Model, name: str, task: int = 0) -> list[torch.Tensor]:
    """The residuals of a file, as the engine's forward gets them."""
    studio = bench.workshop.studio
    net = studio.control_store.get(studio.controls.find(name), model)
    assert isinstance(net, ControlNet)
    hint = NetHint(net, pixels(), (1.0,) * net.outputs, task=task)
    down, middle = net.run([hint, hint], step_of(model))
    return [*down, middle]


@torch.no_grad()
def theirs(net: Any, model: Model, **more: Any) -> list[torch.Tensor]:
    step = step_of(model)
    picture = pixels()[None].expand(2, -1, -1, -1)
    down, middle = net(
        step.x,
        step.t,
        encoder_hidden_states=step.context,
        added_cond_kwargs=step.added,
        return_dict=False,
        **(more or {"controlnet_cond": picture}),
    )
    return [*down, middle]


def same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert float(other.abs().mean()) > 1e-4
        assert apart(one, other) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_is_the_same_network(bench: Bench, family: str) -> None:
    """The original's names, wrapped, in a `.pth`; bare, in `.safetensors`; diffusers' folder, which goes by its own name."""
    model, folder = model_of(bench, family), bench.workshop.studio.controls.folder
    net = net_of(model, 1)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    names = ldm_names(bench, family, model)
    torch.save({"state_dict": {f"control_model.{names[k]}": v for k, v in state.items()}}, folder / f"{family}-a.pth")
    save_file({names[name]: value for name, value in state.items()}, folder / f"{family}-b.safetensors")
    (folder / f"{family}-c").mkdir()
    save_file(state, folder / f"{family}-c" / "diffusion_pytorch_model.fp16.safetensors")
    wanted = theirs(net, model)
    for end in "abc":
        same(ours(bench, model, f"{family}-{end}"), wanted)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_control_lora_is_its_unet_and_low_rank_differences(bench: Bench, family: str) -> None:
    model, folder = model_of(bench, family), bench.workshop.studio.controls.folder
    net, names = net_of(model, 2), ldm_names(bench, family, model)
    unet, generator = dict(model.unet.named_parameters()), torch.Generator().manual_seed(6)
    file, merged = {"lora_controlnet": torch.tensor([])}, {}
    for name, value in net.state_dict().items():
        if name not in unet or value.ndim < 2:
            file[names[name]] = merged[name] = value.contiguous()
            continue
        inner = value[0].numel()
        up, down = (torch.randn(s, generator=generator) * 0.1 for s in ((len(value), RANK), (RANK, inner)))
        merged[name] = unet[name] + (up @ down).reshape(value.shape)
        stem = names[name].removesuffix(".weight")
        file[f"{stem}.up"] = up.reshape(len(value), RANK, *[1] * (value.ndim - 2)).contiguous()
        file[f"{stem}.down"] = down.reshape(RANK, *value.shape[1:]).contiguous()
    net.load_state_dict(merged)
    save_file(file, folder / f"{family}-lora.safetensors")
    same(ours(bench, model, f"{family}-lora"), theirs(net, model))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_union_is_told_the_kind_of_its_map(bench: Bench, family: str) -> None:
    from diffusers import ControlNetUnionModel

    from danqing.engine.control_load import SHARED

    model, folder = model_of(bench, family), bench.workshop.studio.controls.folder
    config = dict(model.unet.config)
    shared = {key: config[key] for key in SHARED if config.get(key) is not None}
    width, tasks = config["block_out_channels"][0], 6
    net = randomised(
        ControlNetUnionModel(
            block_out_channels=config["block_out_channels"],
            conditioning_embedding_out_channels=HINT,
            num_control_type=tasks,
            num_trans_channel=width,
            num_proj_channel=width,
            **{"addition_time_embed_dim": 32, **shared},
        ),
        3,
    )
    save_file(
        {name: value.contiguous() for name, value in net.state_dict().items()}, folder / f"{family}-union.safetensors"
    )
    picture, found = pixels()[None].expand(2, -1, -1, -1), {}
    for task in (1, 3):
        kinds = torch.zeros(2, tasks)
        kinds[:, task] = 1
        more = {"controlnet_cond": [picture], "control_type": kinds, "control_type_idx": [task]}
        found[task] = ours(bench, model, f"{family}-union", task)
        same(found[task], theirs(net, model, **more))
    assert apart(found[1][-1], found[3][-1]) > 1e-3


def test_a_shuffled_picture_s_network_has_no_places(bench: Bench) -> None:
    """Its outputs are means over the picture: by its name, or by the YAML beside it."""
    model, folder = model_of(bench, "sd1"), bench.workshop.studio.controls.folder
    state = {name: value.contiguous() for name, value in net_of(model, 5).state_dict().items()}
    for name in ("v11e_shuffle", "pooled", "shuffle_not"):
        save_file(state, folder / f"{name}.safetensors")
    (folder / "pooled.yaml").write_text("model:\n  params:\n    global_average_pooling: True\n")
    (folder / "shuffle_not.yaml").write_text("model:\n  params:\n    global_average_pooling: False\n")
    whole = ours(bench, model, "shuffle_not")
    for name in ("v11e_shuffle", "pooled"):
        same(ours(bench, model, name), [out.mean((2, 3), keepdim=True).expand_as(out) for out in whole])


def unit(bench: Bench, model: str, **fields: object) -> ControlUnit:
    picture = inputs.keep_image(bench.workshop.studio.data, photograph(1, 64, 64))
    return ControlUnit(**{"model": model, "image": picture, "save_detected_map": False, **fields})


def asked(family: str, *control: ControlUnit) -> GenerateRequest:
    return GenerateRequest(
        prompt="a cat", model=family, steps=2, width=64, height=64, seed=3, sampler="Euler", control=control
    )


@pytest.fixture(scope="module")
def files(bench: Bench) -> Path:
    """A ControlNet for each family, and a union for SDXL, for requests."""
    folder = bench.workshop.studio.controls.folder
    for family in FAMILIES:
        state = net_of(model_of(bench, family), 1).state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, folder / f"draw-{family}.safetensors")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_with_control(bench: Bench, files: Path, family: str) -> None:
    bench.latents.clear()
    found = bench.draw(a=asked(family), b=asked(family, unit(bench, f"draw-{family}")))
    assert found["b"].error is None, found["b"].error
    assert (found["a"].images[0] != found["b"].images[0]).any()


def test_a_net_of_another_family_is_named(bench: Bench, files: Path) -> None:
    done = bench.draw(a=asked("sdxl", unit(bench, "draw-sd1")))["a"]
    assert done.error is not None
    assert done.error.code == "control_misfit"
    assert not done.images


def test_a_refiner_of_another_shape_is_named(bench: Bench, files: Path) -> None:
    """Its UNet has no place for what the ControlNet says; without control it draws."""
    more = {"refiner_checkpoint": "sd2", "refiner_switch_at": 0.5}
    requests = {"a": asked("sd1"), "b": asked("sd1", unit(bench, "draw-sd1"))}
    found = bench.draw(**{name: one.model_copy(update=more) for name, one in requests.items()})
    assert found["a"].error is None, found["a"].error
    assert found["b"].error is not None
    assert found["b"].error.code == "control_misfit"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"lora_unet_down_blocks_0_attn.lora_up.weight": (4, 4)}, "models/Lora"),
        ({"image_proj.proj.0.weight": (1024, 512), "ip_adapter.1.to_k_ip.weight": (4, 4)}, "face recogniser"),
        ({"style_embedding": (1, 8), "proj": (4, 4)}, "style adapter"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (4, 4)}, "Stable-diffusion"),
        ({"something": (4,)}, "no control model"),
        ({"middle_block_out.0.weight": (4, 4, 1, 1)}, "control_broken"),
        ({"body.0.block1.weight": (4, 4, 3, 3), "conv_in.weight": (4, 7, 3, 3)}, "control_broken"),
    ],
)
def test_files_that_cannot_be_used_are_named(bench: Bench, tensors: dict[str, tuple[int, ...]], says: str) -> None:
    folder, model = bench.workshop.studio.controls.folder, model_of(bench, "sd1")
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, folder / "wrong.safetensors")
    with pytest.raises(DanqingError) as caught:
        bench.workshop.studio.control_store.get(bench.workshop.studio.controls.find("wrong"), model)
    assert caught.value.code == "control_broken"
    assert says in f"{caught.value.code} {caught.value}"


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, pickle.dumps({"image_proj": print})])
def test_hostile_files_are_named(bench: Bench, content: bytes) -> None:
    folder = bench.workshop.studio.controls.folder
    (folder / "hostile.bin").write_bytes(content)
    done = bench.draw(a=asked("sd1", unit(bench, "hostile")))["a"]
    assert done.error is not None
    assert done.error.code in ("model_broken", "model_unsafe")


def test_names_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "ControlNet"
    for name in ("b.pth", "depth/diffusion_pytorch_model.safetensors", "a/c.safetensors", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    names = [row.name for row in Controls(tmp_path).all()]
    assert names[:3] == ["b", "c", "depth"]
    assert all(name.startswith("danqing-mini-") for name in names[3:])
