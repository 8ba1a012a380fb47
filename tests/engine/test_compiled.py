"""Compiled code comes while people draw: it takes over between two steps, and what is wrong with it costs nobody a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine import compile_unet, compile_vae
from danqing.engine.compile_store import PACKAGE, Artefact, Store, Want
from danqing.engine.compile_unet import Compilable
from danqing.engine.compile_vae import Coder
from danqing.engine.compiled import CompiledNetworks
from danqing.request import GenerateRequest

from . import tiny
from .conftest import Bench

ACROSS = {"prompt": "a cat", "steps": 6, "width": 64, "height": 64, "seed": 3, "sampler": "Euler"}


class Package:
    """In the place of what `torch._inductor.aoti_load_package` gives: its interface around the eager network, so that what is
    tried is how the engine finds, checks, swaps and drops compiled code, not how fast g++ is."""

    def __init__(self, network: Compilable, harm: Callable[[int], None] = lambda call: None) -> None:
        self._network, self._harm, self.calls = network, harm, 0
        self.rows: list[int] = []
        self.bound: dict[str, torch.Tensor] = {}

    def get_constant_fqns(self) -> list[str]:
        return [compile_unet.PREFIX + name for name, _ in self._network.unet.named_parameters()]

    def load_constants(
        self, constants: dict[str, torch.Tensor], check_full_update: bool = False, user_managed: bool = False
    ) -> None:
        assert check_full_update
        assert user_managed  # the engine's own weights, not a second copy of them
        self.bound = constants

    def __call__(self, *inputs: Any) -> torch.Tensor:
        self._harm(self.calls)
        self.calls += 1
        self.rows.append(inputs[0].shape[0])
        out: torch.Tensor = self._network(*inputs)
        return out


class Scene:
    """An engine on a small checkpoint whose compiled code appears when a test publishes some."""

    def __init__(self, data: Path, folder: Path) -> None:
        tiny.write(data)
        self.bench = Bench(data)
        self.store = Store([folder], "f" * 16)
        self.packages: list[Package] = []
        self.harm: Callable[[int], None] = lambda call: None
        self.clock = 0.0
        self.compiled = CompiledNetworks(self.store, open_package=self._open, clock=lambda: self.clock)
        self.bench.workshop.runner.compiled = self.compiled
        self.model = self.bench.workshop.load_default()

    def _open(self, artefact: Artefact) -> Package:
        self.packages.append(Package(Compilable(self.model.unet), self.harm))
        return self.packages[-1]

    def publish(self, variant: str = "plain", gain: float = 1.5, difference: float = 1e-6) -> Want:
        want = Want(compile_unet.architecture_of(self.model.unet), variant, 8, 8)
        with self.store.making(want) as half:
            (half / PACKAGE).write_bytes(b"code")
            self.store.publish(half, want, seconds=9.0, gain=gain, difference=difference)
        return want

    def tend(self) -> None:
        """What the engine's loop does between two steps, until there is nothing new."""
        for _ in range(200):
            self.clock += 3.0
            self.bench.workshop.tend()
            if self.compiled.shelf.reading is None:
                return
            self.compiled.shelf.reading[2].exception()  # wait for the thread that reads

    def draw(self, at: dict[int, Callable[[], object]] | None = None, **fields: Any) -> np.ndarray:
        """A picture; `at`: after so many of the engine's steps do this."""
        job = f"job {len(self.bench.drawn)}"
        self.bench.engine.submit(job, GenerateRequest(**(ACROSS | fields)))
        step = 0
        while not self.bench.engine.idle:
            self.bench.engine.step()
            step += 1
            (at or {}).get(step, lambda: None)()
        drawn = self.bench.drawn[job]
        assert drawn.error is None, drawn.error
        return drawn.images[0]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "data", tmp_path / "compiled")


def test_it_takes_over_between_two_steps_of_a_picture(scene: Scene) -> None:
    eager = scene.draw()
    assert scene.compiled.report()["state"] == "eager"

    def arrive() -> None:
        scene.publish()
        scene.tend()

    mixed = scene.draw(at={4: arrive})
    (package,) = scene.packages
    assert 0 < package.calls < 6  # the first steps were eager
    assert package.rows == [2] * package.calls
    assert scene.bench.workshop.stats()["compiled_forwards"] == package.calls
    assert np.abs(mixed.astype(int) - eager).max() <= 1
    assert scene.compiled.report() | {"state": "compiled", "gain": 1.5, "seconds": 9.0} == scene.compiled.report()
    weights = dict(scene.model.unet.named_parameters())
    assert package.bound["unet.conv_in.weight"].data_ptr() == weights["conv_in.weight"].data_ptr()


def test_code_that_fails_costs_no_picture_and_is_not_used_again(scene: Scene) -> None:
    eager = scene.draw()

    def harm(call: int) -> None:
        if call == 2:
            raise RuntimeError("illegal instruction")

    scene.harm = harm
    scene.publish()
    scene.tend()
    drawn = scene.draw()
    assert np.abs(drawn.astype(int) - eager).max() <= 1
    assert scene.packages[0].calls == 2
    scene.tend()
    scene.draw()
    assert len(scene.packages) == 1  # not even opened again
    report = scene.compiled.report()
    assert (report["state"], report["reason"]) == ("eager", "broken")
    assert "failed while drawing" in report["en"]


@pytest.mark.parametrize(
    ("figures", "reason"),
    [({"gain": 0.72}, "slower"), ({"difference": 0.3}, "differs"), ({"difference": float("nan")}, "differs")],
)
def test_code_that_is_slower_or_wrong_is_not_used(scene: Scene, figures: dict[str, float], reason: str) -> None:
    scene.publish(**figures)
    scene.tend()
    scene.draw()
    assert not scene.packages
    report = scene.compiled.report()
    assert (report["state"], report["reason"]) == ("eager", reason)
    assert report["zh"]


def test_damaged_code_is_left_alone_until_it_is_made_again(scene: Scene) -> None:
    want = scene.publish()
    (scene.store.folder / want.name / PACKAGE).write_bytes(b"cod")
    scene.publish("full")
    scene.tend()
    scene.draw()
    assert [package.calls for package in scene.packages] == [0]  # the other one's is read all the same
    assert len(scene.store.told) == 1
    scene.publish()
    scene.tend()
    scene.draw()
    assert [package.calls for package in scene.packages] == [0, 6]


@pytest.mark.parametrize(
    "fields",
    [{"tiling": True}, {"options": {"token_merging_ratio": 0.5}}, {"width": 128}],
    ids=["tiling", "token merging", "another size"],
)
def test_what_the_code_was_not_made_for_runs_eagerly(scene: Scene, fields: dict[str, Any]) -> None:
    eager = scene.draw(**fields)
    scene.publish()
    scene.publish("full")
    scene.tend()
    assert len(scene.packages) == 2
    assert np.array_equal(scene.draw(**fields), eager)
    assert [package.calls for package in scene.packages] == [0, 0]


class Halves:
    """In the place of the package of a decoder: the eager one, with what goes wrong."""

    def __init__(self, vae: Any, harm: Callable[[int], None]) -> None:
        self.coder, self._harm, self.calls = Coder(vae, "decode"), harm, 0

    def get_constant_fqns(self) -> list[str]:
        return [name for name, _ in self.coder.named_parameters()]

    def load_constants(self, constants: dict[str, torch.Tensor], **_: Any) -> None:
        assert set(constants) == set(self.get_constant_fqns())

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self._harm(self.calls)
        out: torch.Tensor = self.coder(latents)
        return out


def with_decoder(scene: Scene, **figures: float) -> list[Halves]:
    """Publish a decoder for the scene's checkpoint and have the engine look; the packages that it opened."""
    opened: list[Halves] = []

    def read(artefact: Artefact) -> Halves:
        opened.append(Halves(scene.model.vae, scene.harm))
        return opened[-1]

    scene.compiled.shelf._open = read
    want = Want(compile_vae.architecture_of(scene.model.vae), "decode", 8, 8)
    with scene.store.making(want) as half:
        (half / PACKAGE).write_bytes(b"code")
        scene.store.publish(half, want, **({"seconds": 4.0, "gain": 1.2, "difference": 1e-6} | figures))
    scene.tend()
    return opened


def test_pictures_are_decoded_by_compiled_code_where_some_fits(scene: Scene) -> None:
    eager, wide, tiled = scene.draw(), scene.draw(width=128), scene.draw(tiling=True)
    (package,) = with_decoder(scene)
    assert np.abs(scene.draw().astype(int) - eager).max() <= 1
    assert package.calls == 1
    assert scene.bench.workshop.stats()["compiled_vae_runs"] == 1
    assert np.array_equal(scene.draw(width=128), wide)  # another size
    assert np.array_equal(scene.draw(tiling=True), tiled)  # by strips
    assert package.calls == 1
    scene.compiled.relax()  # holds no VAE when room is short, and reads the code again
    assert not scene.compiled.shelf.ready
    scene.tend()
    assert scene.compiled.report()["vae_gain"] == 1.2


@pytest.mark.parametrize("error", [RuntimeError("illegal instruction"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_decoder_that_fails_costs_no_picture(scene: Scene, error: RuntimeError) -> None:
    eager = scene.draw()

    def harm(call: int) -> None:
        raise error

    scene.harm = harm
    (package,) = with_decoder(scene)
    assert np.abs(scene.draw().astype(int) - eager).max() <= 1
    scene.tend()
    scene.draw()
    # Too little memory is no fault of the code: the picture went by strips, and the next one tries again.
    short = isinstance(error, torch.OutOfMemoryError)
    assert package.calls == (2 if short else 1)
    assert scene.compiled.report()["reason"] == ("" if short else "broken")


def test_a_decoder_that_deviates_is_not_used(scene: Scene) -> None:
    assert with_decoder(scene, difference=0.3) == []
    assert scene.compiled.report()["reason"] == "differs"


def test_a_decoder_that_is_no_faster_is_nothing_to_tell(scene: Scene) -> None:
    assert with_decoder(scene, gain=0.9) == []
    assert scene.compiled.report()["reason"] == ""


def test_what_a_killed_or_failed_compiler_left_is_told(scene: Scene) -> None:
    with scene.store.locked():
        scene.store.tell("compiling")
        assert scene.compiled.report()["state"] == "compiling"
    report = scene.compiled.report()
    assert (report["state"], report["reason"]) == ("eager", "killed")
    scene.store.tell("failed", "failed", detail="g++ is not here")
    assert scene.compiled.report()["en"] == "compiling failed (g++ is not here)"
    scene.store.tell("done")
    assert scene.compiled.report()["reason"] == ""


def test_a_model_that_leaves_takes_its_code_along(scene: Scene) -> None:
    scene.publish()
    scene.tend()
    assert scene.compiled.report()["state"] == "compiled"
    scene.bench.workshop.models.drop_unused()
    assert scene.compiled.report()["state"] == "eager"


def test_switched_off_it_looks_nowhere(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    bench = Bench(tmp_path, engine_compiled="off")
    bench.workshop.tend()
    assert bench.workshop.runner.compiled.report()["state"] == "eager"
    assert not (tmp_path / "cache").exists()
