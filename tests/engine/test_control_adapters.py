"""T2I-Adapters and IP-Adapters against diffusers' pipelines, and in company with other rows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from danqing.gallery import inputs
from danqing.request import ControlUnit, GenerateRequest
from tests.parity.fixture import make

from .conftest import Bench
from .control_files import flat, image_encoder, ip_adapter, original_names, t2i_adapter
from .peers import BASE, apart, drawn, model_of, parts, photograph

WEIGHT = 0.8


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(make(tmp_path_factory.mktemp("control-adapters")), engine_gain=10.0)


@pytest.fixture(scope="module")
def folder(bench: Bench) -> Path:
    return bench.workshop.studio.controls.folder


@pytest.fixture(scope="module")
def adapters(bench: Bench, folder: Path) -> dict[str, Any]:
    """T2I-Adapters of diffusers and their files: the original's layout, diffusers', a light one, one that sees grey."""
    unet = model_of(bench).unet
    made = {
        "t2i_full": t2i_adapter(unet, 1),
        "t2i_light": t2i_adapter(unet, 2, "light_adapter"),
        "t2i_sketch": t2i_adapter(unet, 3, in_channels=1),
    }
    torch.save(original_names(made["t2i_full"]), folder / "t2i_full.pth")
    save_file(original_names(made["t2i_light"]), folder / "t2i_light.safetensors")
    save_file(made["t2i_sketch"].state_dict(), folder / "t2i_sketch.safetensors")
    return made


@pytest.fixture(scope="module")
def prompters(bench: Bench, folder: Path) -> dict[str, Any]:
    """IP-Adapters, plain and plus, and their files: flat, and a pickle of tables."""
    unet = model_of(bench).unet
    made = {"ip_plain": ip_adapter(unet, 4, False), "ip_plus": ip_adapter(unet, 5, True)}
    save_file(flat(made["ip_plain"]), folder / "ip_plain.safetensors")
    torch.save(made["ip_plus"], folder / "ip_plus.bin")
    return made


def unit(bench: Bench, model: str, seed: int = 0, **fields: object) -> ControlUnit:
    picture = inputs.keep_image(bench.workshop.studio.data, photograph(seed, 128, 128))
    return ControlUnit(**{"model": model, "image": picture, "weight": WEIGHT, "save_detected_map": False, **fields})


def asked(*control: ControlUnit, **fields: object) -> GenerateRequest:
    return BASE.model_copy(update={"control": control, **fields})


def ours(bench: Bench, request: GenerateRequest) -> torch.Tensor:
    bench.latents.clear()
    done = bench.draw(a=request)["a"]
    assert done.error is None, done.error
    return bench.latents[-1]


@pytest.mark.parametrize("name", ["t2i_full", "t2i_light", "t2i_sketch"])
def test_t2i_adapters_are_those_of_diffusers_pipeline(bench: Bench, adapters: dict[str, Any], name: str) -> None:
    from diffusers import StableDiffusionAdapterPipeline

    pipeline = StableDiffusionAdapterPipeline(adapter=adapters[name], **parts(model_of(bench)))
    grey = name == "t2i_sketch"
    picture = photograph(0).convert("L").convert("RGB") if grey else photograph(0)
    shown = picture.convert("L") if grey else picture
    theirs = drawn(pipeline, BASE, image=shown, adapter_conditioning_scale=WEIGHT)
    image = inputs.keep_image(bench.workshop.studio.data, picture)
    found = ours(bench, asked(unit(bench, name, image=image)))
    assert apart(found, theirs) < 1e-3
    assert apart(found, ours(bench, BASE)) > 0.1


@torch.no_grad()
@pytest.mark.parametrize("name", ["ip_plain", "ip_plus"])
def test_ip_adapters_are_those_of_diffusers_pipeline(bench: Bench, prompters: dict[str, Any], name: str) -> None:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPImageProcessor

    encoder = image_encoder(bench.workshop.studio.data)
    side = {"height": 28, "width": 28}
    made = parts(model_of(bench)) | {
        "unet": copy.deepcopy(model_of(bench).unet),
        "image_encoder": encoder,
        "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=side),
    }
    pipeline = StableDiffusionPipeline(**made)
    pipeline.load_ip_adapter(prompters[name], subfolder=None, weight_name=None, image_encoder_folder=None)
    pipeline.set_ip_adapter_scale(WEIGHT)
    theirs = drawn(pipeline, BASE, ip_adapter_image=photograph(0))
    found = ours(bench, asked(unit(bench, name, module="ip-adapter-auto")))
    assert apart(found, theirs) < 1e-3
    assert apart(found, ours(bench, BASE)) > 0.05


def test_without_an_image_encoder_of_its_width_nothing_is_drawn(
    tmp_path: Path, bench: Bench, prompters: dict[str, Any]
) -> None:
    alone = Bench(make(tmp_path), engine_gain=10.0)
    tables = prompters["ip_plus"]
    save_file(flat(tables), alone.workshop.studio.controls.folder / "ip_plus.safetensors")
    image_encoder(alone.workshop.studio.data, width=32, vector=16)
    done = alone.draw(a=asked(unit(alone, "ip_plus")))["a"]
    assert done.error is not None
    assert done.error.code == "image_encoder_missing"
    assert "64" in str(done.error)
    assert "clip_vision" in str(done.error)
    assert not done.images


def test_adapters_in_company_are_what_they_are_alone(
    bench: Bench, adapters: dict[str, Any], prompters: dict[str, Any]
) -> None:
    """Different files and weights of T2I-Adapters share forwards; each picture stays its own. So do image prompts."""
    image_encoder(bench.workshop.studio.data)
    requests = {
        "plain": asked(),
        "full": asked(unit(bench, "t2i_full")),
        "light": asked(unit(bench, "t2i_light", 1, weight=0.4), seed=7),
        "ip": asked(unit(bench, "ip_plain", 2)),
        "ip too": asked(unit(bench, "ip_plain", 1, weight=1.2), seed=8),
        "both": asked(unit(bench, "t2i_full"), unit(bench, "ip_plus", 1), seed=9),
    }
    requests = {name: one.model_copy(update={"steps": 2}) for name, one in requests.items()}
    alone = {name: ours(bench, one) for name, one in requests.items()}
    bench.latents.clear()
    bench.forwards.clear()
    bench.draw(**requests)
    together = list(bench.latents)
    for name, latent in alone.items():
        assert min(apart(other, latent) for other in together) < 1e-4, name
    shared = [owners for kind, _, owners in bench.forwards if kind == "denoise"]
    assert {"full", "light"} in shared
    assert {"ip", "ip too"} in shared


def test_weight_nothing_and_a_share_of_the_way(
    bench: Bench, adapters: dict[str, Any], prompters: dict[str, Any]
) -> None:
    image_encoder(bench.workshop.studio.data)
    none = ours(bench, BASE)
    for name in ("t2i_full", "ip_plain"):
        nothing, half, whole = (
            ours(bench, asked(unit(bench, name, **fields)))
            for fields in ({"weight": 0.0}, {"guidance_end": 0.4}, {"weight": WEIGHT})
        )
        assert apart(nothing, none) < 1e-6, name
        assert apart(half, none) > 1e-4, name
        assert apart(half, whole) > 1e-4, name


@pytest.mark.parametrize("name", ["control_tiny11_sd15_canny", "t2i_full", "ip_plus"])
def test_a_picture_is_read_once_a_request(
    bench: Bench, adapters: dict[str, Any], prompters: dict[str, Any], name: str
) -> None:
    """Two batches of two pictures, two steps, two sides: the hint encoder, the adapter, the image encoder run once."""
    image_encoder(bench.workshop.studio.data)
    first = unit(bench, name)
    ours(bench, asked(first, steps=1))
    store = bench.workshop.studio.control_store
    loaded = next(one for key, one in reversed(store._nets.items()) if f"/{name}." in key)
    networks = {"ip_plus": lambda: loaded.project, "t2i_full": lambda: loaded.module}
    network = networks.get(name, lambda: loaded.module.hint_encoder)()
    runs: list[int] = []
    handle = network.register_forward_hook(lambda *_: runs.append(1))
    try:
        done = bench.draw(a=asked(unit(bench, name, 77), batch_size=2, n_iter=2, steps=2))["a"]
    finally:
        handle.remove()
    assert len(done.images) == 4
    assert len(runs) == (2 if name == "ip_plus" else 1), "with the one that stands for no picture"
