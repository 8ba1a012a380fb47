"""Shares inside a real engine: who has nothing there begins, however full it is."""

from __future__ import annotations

from collections.abc import Callable

from danqing.request import GenerateRequest

from .conftest import Bench

BASE = GenerateRequest(prompt="a red circle", sampler="Euler", steps=6, width=64, height=64, seed=5, model="tiny-sd15")


def test_a_newcomer_begins_although_every_place_is_taken(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(engine_pictures=2)
    engine = bench.engine
    for number in range(3):
        engine.submit(f"a{number}", BASE.model_copy(update={"batch_size": 2, "seed": number}), "a")
    while not bench.drawn.get("a0") or not bench.drawn["a0"].progress:
        engine.step()
    engine.submit("b0", BASE, "b")
    engine.submit("b1", BASE, "b")
    engine.step()
    assert {name: len(job.live) for name, job in engine._jobs.items()} == {"a0": 2, "a1": 0, "a2": 0, "b0": 1, "b1": 0}
    bench.finish()
    ended = [name for name, drawn in bench.drawn.items() if drawn.images]
    assert sorted(ended) == ["a0", "a1", "a2", "b0", "b1"]
    assert all(drawn.error is None for drawn in bench.drawn.values())
