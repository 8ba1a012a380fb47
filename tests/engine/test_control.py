"""ControlNet units on a real, small net: what weights, ranges, modes and pictures do to the latents."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine.control import Units, layer_weights
from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.request import ControlUnit, GenerateRequest
from tests.parity.fixture import CASES, make

from .conftest import Bench, Drawn

MODEL = "control_tiny11_sd15_canny"
BASE = GenerateRequest(
    prompt="a cat",
    negative_prompt="blurry",
    sampler="Euler",
    steps=6,
    width=128,
    height=128,
    seed=42,
    model="tiny-sd15",
    rng="CPU",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(make(tmp_path_factory.mktemp("control")), engine_gain=10.0)


def picture(bench: Bench, name: str = "grad128.png") -> str:
    data: Path = bench.workshop.studio.data
    return inputs.keep(data, (CASES / "inputs" / name).read_bytes())


def unit(bench: Bench, **fields: object) -> ControlUnit:
    return ControlUnit(model=MODEL, **{"image": picture(bench), **fields})


def latents(bench: Bench, **units: tuple[ControlUnit, ...]) -> dict[str, torch.Tensor]:
    """The final latent of a request with each tuple of units, each drawn for itself."""
    found = {}
    for name, control in units.items():
        bench.latents.clear()
        drawn = bench.draw(**{name: BASE.model_copy(update={"control": control})})[name]
        assert drawn.error is None, drawn.error
        found[name] = bench.latents[-1]
    return found


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_weight_nothing_is_no_control_and_half_lies_between(bench: Bench) -> None:
    found = latents(
        bench,
        none=(),
        nothing=(unit(bench, weight=0.0),),
        half_way=(unit(bench, guidance_end=0.5),),
        whole=(unit(bench),),
    )
    assert apart(found["nothing"], found["none"]) < 1e-6
    assert 1e-4 < apart(found["half_way"], found["none"]) < apart(found["whole"], found["none"])


def test_two_units_add_up(bench: Bench) -> None:
    """Two units of one picture with half the weight each are one unit of the whole."""
    half = unit(bench, weight=0.5)
    found = latents(bench, one=(unit(bench),), two=(half, half), three=(unit(bench), half))
    assert apart(found["two"], found["one"]) < 1e-5
    assert apart(found["three"], found["one"]) > 1e-3


def test_requests_with_and_without_control_share_the_engine(bench: Bench) -> None:
    """Company changes nothing: each picture is the one it is alone."""
    requests = {
        "plain": BASE,
        "with": BASE.model_copy(update={"control": (unit(bench),)}),
        "less": BASE.model_copy(update={"control": (unit(bench, weight=0.3),), "seed": 7}),
    }
    alone: dict[str, Drawn] = {name: bench.draw(**{name: one})[name] for name, one in requests.items()}
    together = bench.draw(**requests)
    for name in requests:
        gap = np.abs(alone[name].images[0].astype(int) - together[name].images[0].astype(int)).max()
        assert gap <= 1, name


def test_a_map_is_handed_out_behind_the_pictures(bench: Bench) -> None:
    request = BASE.model_copy(update={"control": (unit(bench, module="canny", processor_res=128),), "batch_size": 2})
    drawn = bench.draw(a=request)["a"]
    assert sorted(drawn.images) == [0, 1, 2]
    assert [drawn.facts[i]["role"] for i in (0, 1, 2)] == ["image", "image", "map"]
    quiet = request.model_copy(update={"control": (unit(bench, save_detected_map=False),)})
    assert sorted(bench.draw(b=quiet)["b"].images) == [0, 1]


def test_soft_weights() -> None:
    """0.825^(12 - i) for output i of 13, times the weight; balanced ones are all alike."""
    soft = ControlUnit(weight=2.0, control_mode="My prompt is more important")
    assert layer_weights(soft, 13) == pytest.approx([2.0 * 0.825 ** (12 - i) for i in range(13)])
    assert layer_weights(ControlUnit(weight=0.4), 13) == (0.4,) * 13
    advanced = ControlUnit(weight=0.5, advanced_weighting=tuple(float(i) for i in range(13)))
    assert layer_weights(advanced, 13) == tuple(0.5 * i for i in range(13))


class FakeHint:
    """Stands for a hint where only its weights matter."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self.weights = weights

    def weighted(self, weights: tuple[float, ...]) -> FakeHint:
        return FakeHint(weights)


def test_where_control_is_more_important_the_negative_prompt_feels_nothing() -> None:
    rows = [(ControlUnit(control_mode="ControlNet is more important"), FakeHint((1.0, 1.0)))]
    units = Units(rows)  # type: ignore[arg-type]
    assert units.at(0, 10, unconditional=True)[0].weights == (0.0, 0.0)
    assert units.at(0, 10, unconditional=False)[0].weights == (1.0, 1.0)


def test_a_unit_acts_within_its_share_of_the_way() -> None:
    rows = [(ControlUnit(guidance_start=0.2, guidance_end=0.6), FakeHint((1.0,)))]
    units = Units(rows)  # type: ignore[arg-type]
    acting = [bool(units.at(call, 10, unconditional=False)) for call in range(10)]
    assert acting == [False, False, True, True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"image": ""}, "control_without_picture"),
        ({"image": "0" * 64}, "unknown_picture"),
        ({"model": "nothing like it"}, "unknown_control"),
        ({"module": "no such module"}, "unknown_preprocessor"),
        ({"module": "depth_midas"}, "annotator_missing"),
    ],
)
def test_nothing_is_drawn_without_the_control_it_asked_for(bench: Bench, fields: dict[str, object], code: str) -> None:
    wanted = ControlUnit(**{"model": MODEL, "image": picture(bench), **fields})
    drawn = bench.draw(a=BASE.model_copy(update={"control": (wanted,)}))["a"]
    assert isinstance(drawn.error, DanqingError)
    assert drawn.error.code == code
    assert not drawn.images


def test_a_file_that_is_no_controlnet_is_named(bench: Bench) -> None:
    data: Path = bench.workshop.studio.data
    source = data / "models" / "VAE" / "tinyvae.safetensors"
    (data / "models" / "ControlNet" / "not_one.safetensors").write_bytes(source.read_bytes())
    wanted = unit(bench).model_copy(update={"model": "not_one"})
    drawn = bench.draw(a=BASE.model_copy(update={"control": (wanted,)}))["a"]
    assert drawn.error is not None
    assert drawn.error.code == "control_broken"


def test_the_hint_is_seen_once_a_picture(bench: Bench) -> None:
    """The hint encoder's output is kept: ten steps, one run of it."""
    net = bench.workshop.studio.control_store
    bench.draw(a=BASE.model_copy(update={"control": (unit(bench),)}))
    loaded = next(iter(net._nets.values()))
    runs = []
    handle = loaded.module.hint_encoder.register_forward_hook(lambda *_: runs.append(1))
    try:
        image = io.BytesIO()
        Image.new("RGB", (128, 128), "red").save(image, "PNG")
        name = inputs.keep(bench.workshop.studio.data, image.getvalue())
        bench.draw(a=BASE.model_copy(update={"control": (unit(bench, image=name),)}))
    finally:
        handle.remove()
    assert len(runs) == 1
