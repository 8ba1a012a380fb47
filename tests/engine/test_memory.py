"""Out of memory is an ordinary event: failures of the allocator in UNet, VAE and text encoder calls of a real engine."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine import memory
from danqing.engine.models import Model
from danqing.errors import DanqingError
from danqing.request import GenerateRequest, Hires

from .conftest import Bench

BASE = GenerateRequest(prompt="a red circle", sampler="Euler", steps=3, width=64, height=64, seed=5, model="tiny-sd15")


class Allocator:
    """Makes calls of a network fail: the first `times`, or all for which `fails` says so."""

    def __init__(self, inner: Callable[..., Any], times: int = 0, fails: Callable[..., bool] | None = None) -> None:
        self.inner, self.times, self.fails = inner, times, fails
        self.failed = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.failed < self.times or (self.fails and self.fails(*arguments)):
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.inner(*arguments, **named)


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def hold(bench: Bench) -> Model:
    """The model, held so that letting go of what is unused does not undo what a test does to it."""
    model: Model = bench.workshop.models.acquire(bench.workshop.library.resolve("tiny-sd15")).result()
    return model


@pytest.mark.parametrize("part", ["unet", "vae", "text encoder"])
def test_one_failure_costs_nobody_anything(bench: Bench, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bench.draw(a=BASE)["a"].images[0]
    bench.workshop.runner.relax()
    model = hold(bench)
    where: Any = {"unet": model.unet, "vae": model.vae, "text encoder": model.encoders[0].module}[part]
    name = "decode" if part == "vae" else "forward"
    allocator = Allocator(getattr(where, name), times=1)
    monkeypatch.setattr(where, name, allocator)
    drawn = bench.draw(a=BASE)["a"]
    assert allocator.failed == 1
    assert drawn.error is None
    assert np.abs(drawn.images[0].astype(int) - expected).max() <= 1


def test_rows_of_one_picture_are_run_one_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompt and negative prompt do not fit together: everything else goes first, then each gets a forward of its own."""
    expected = bench.draw(a=BASE)["a"].images[0]
    model = hold(bench)
    monkeypatch.setattr(model.unet, "forward", Allocator(model.unet.forward, fails=lambda x, *_: x.shape[0] > 1))
    drawn = bench.draw(a=BASE)["a"]
    assert drawn.error is None
    assert np.abs(drawn.images[0].astype(int) - expected).max() <= 1
    assert bench.workshop.stats()["out_of_memory"] == BASE.steps


def test_networks_that_are_not_needed_make_room_and_come_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The UNet fits only while the text encoder is not on the device; nobody sees a difference, and all are back."""
    expected = bench.draw(a=BASE)["a"].images[0]
    model = hold(bench)
    # The same device by another name, so that networks really go and come back.
    monkeypatch.setattr(bench.workshop.runner, "device", torch.device("cpu", 0))
    there, away = {"text": True, "vae": True, "unet": True}, set[str]()

    def watched(name: str, network: Any) -> Callable[..., Any]:
        inner = network.to

        def to(device: torch.device) -> Any:
            there[name] = device != torch.device("cpu")
            away.update(name for name, here in there.items() if not here)
            return inner(device)

        return to

    for name, network in (("text", model.text), ("vae", model.vae), ("unet", model.unet)):
        monkeypatch.setattr(network, "to", watched(name, network))
    allocator = Allocator(model.unet.forward, fails=lambda *_: there["text"])
    monkeypatch.setattr(model.unet, "forward", allocator)
    drawn = bench.draw(a=BASE)["a"]
    assert drawn.error is None
    assert allocator.failed
    assert away == {"text", "vae"}
    assert np.abs(drawn.images[0].astype(int) - expected).max() <= 1
    assert there == {"text": True, "vae": True, "unet": True}
    assert not model.text.get_input_embeddings().weight.is_inference()


@pytest.mark.parametrize("part", ["unet", "text encoder"])
def test_what_never_fits_ends_with_what_would_and_the_next_is_drawn(
    bench: Bench, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hold(bench)
    where: Any = model.unet if part == "unet" else model.encoders[0].module
    with monkeypatch.context() as patch:
        patch.setattr(where, "forward", Allocator(where.forward, fails=lambda *_: True))
        error = bench.draw(big=BASE.model_copy(update={"width": 256, "height": 512}))["big"].error
    assert error is not None
    assert (error.code, error.params) == ("out_of_memory", {"width": 128, "height": 256, "fits": 1})
    assert error.__traceback__ is None
    assert bench.engine.idle
    assert bench.draw(a=BASE)["a"].images


def test_what_is_kept_for_speed_goes_and_nothing_stays_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.draw(a=BASE)
    model = hold(bench)
    runner = bench.workshop.runner
    assert runner._conditionings
    monkeypatch.setattr(model.unet, "forward", Allocator(model.unet.forward, fails=lambda *_: True))
    assert bench.draw(a=BASE)["a"].error
    assert not runner._conditionings
    assert len(bench.engine._scheduler) == 0
    assert bench.workshop.models._users.get(bench.workshop.models._keys[model.key]) == 1


def test_what_cannot_fit_is_refused_before_it_begins(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(engine_memory_mb=1)
    drawn = bench.draw(big=BASE.model_copy(update={"width": 1024, "height": 1024}), small=BASE)
    error = drawn["big"].error
    assert error is not None
    assert error.code == "out_of_memory"
    assert drawn["big"].progress == []
    fits = {name: error.params[name] for name in ("width", "height")}
    assert bench.draw(again=BASE.model_copy(update=fits | {"steps": 1}))["again"].images
    assert drawn["small"].images


def test_need_grows_with_the_largest_pass() -> None:
    unet = SimpleNamespace(config=SimpleNamespace(block_out_channels=(320, 640)), dtype=torch.float16)
    model = SimpleNamespace(unet=unet)
    assert memory.need(model, 1024, 1024) == 4 * memory.need(model, 512, 512)
    hires = BASE.model_copy(update={"hires": Hires(scale=4.0)})
    assert memory.largest(hires) == (256, 256)
    with pytest.raises(DanqingError) as caught:
        memory.check(model, hires, memory.need(model, 256, 256) - 1)
    assert caught.value.params["width"] == 192
    memory.check(model, hires, memory.need(model, 256, 256))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("x"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
        ),
        RuntimeError("CUDA out of memory"),
    ],
)
def test_every_way_of_saying_it_is_understood(error: Exception) -> None:
    assert memory.is_out_of_memory(error)
    assert not memory.is_out_of_memory(ValueError("out of memory"))
    assert not memory.is_out_of_memory(RuntimeError("shapes do not fit"))
