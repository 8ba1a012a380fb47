"""The engine's promises on a real, small model: company does not matter, nobody's failure is another's."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine import catalog
from danqing.engine.calls import Track
from danqing.engine.scheduler import Kind
from danqing.options import DrawOptions
from danqing.request import Extras, GenerateRequest, Hires, Inpaint, Script, input_path

from .conftest import Bench, Drawn

BASE = GenerateRequest(
    prompt="a red circle",
    negative_prompt="blue",
    sampler="Euler",
    steps=4,
    width=64,
    height=64,
    seed=5,
    model="tiny-sd15",
)


def gap(a: Drawn, b: Drawn) -> int:
    """Largest difference of two first pictures, in 1/255."""
    return int(np.abs(a.images[0].astype(int) - b.images[0].astype(int)).max())


def test_the_same_request_twice_is_the_same_picture(shared_bench: Bench) -> None:
    first, second = (shared_bench.draw(a=BASE)["a"] for _ in range(2))
    assert first.images[0].tobytes() == second.images[0].tobytes()
    assert first.facts == second.facts


def company(count: int) -> dict[str, GenerateRequest]:
    """Requests of every sampler, several sizes, step counts, prompts, seeds and CFG scales."""
    sizes = [(64, 64), (64, 64), (96, 64), (64, 72)]
    names = catalog.sampler_names()
    return {
        f"other{i}": BASE.model_copy(
            update={
                "prompt": "a blue square, " * (i * 7),
                "negative_prompt": "" if i % 2 else "red",
                "sampler": names[i % len(names)],
                "steps": 1 + i % 5,
                "width": sizes[i % 4][0],
                "height": sizes[i % 4][1],
                "seed": 100 + i,
                "cfg_scale": [1.0, 4.0, 7.5][i % 3],
                "clip_skip": 1 + i % 2,
                "rng": "CPU" if i % 5 == 0 else "NV",
            }
        )
        for i in range(count)
    }


def test_company_changes_nothing(shared_bench: Bench) -> None:
    """Every sampler alone, and among fifteen others of every sampler, size and step count."""
    mine = {f"mine{i}": BASE.model_copy(update={"sampler": name}) for i, name in enumerate(catalog.sampler_names())}
    alone = {name: shared_bench.draw(**{name: request})[name] for name, request in mine.items()}
    shared_bench.forwards.clear()
    together = shared_bench.draw(**mine, **company(16 - len(mine)))
    assert all(drawn.error is None and drawn.images for drawn in together.values())
    for name in mine:
        shared = [owners for kind, _, owners in shared_bench.forwards if kind is Kind.DENOISE and name in owners]
        assert max(len(owners) for owners in shared) > 4, "nothing was shared, so nothing was shown"
        assert gap(alone[name], together[name]) <= 1


def drawing(tone: int) -> Image.Image:
    """A small picture that is not flat."""
    return Image.fromarray(np.add.outer(np.arange(64), np.arange(64) * 2).astype(np.uint8)).point(lambda v: v ^ tone)


def named(image: Image.Image) -> str:
    """The name of an input picture."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return hashlib.sha256(out.getvalue()).hexdigest()


PICTURE, MASK = named(drawing(0)), named(drawing(0).point(lambda v: 255 * (v > 128)))


def hand_in(bench: Bench) -> None:
    """Put both pictures where requests look for them."""
    for image in (drawing(0), drawing(0).point(lambda v: 255 * (v > 128))):
        path = input_path(bench.workshop.studio.data, named(image))
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "PNG")


OTHER_VALUES: dict[str, list[object]] = {
    "kind": [],
    "prompt": ["a blue square", "word " * 100],
    "negative_prompt": ["", "word " * 100],
    "sampler": [name for name in catalog.sampler_names() if name != BASE.sampler],
    "scheduler": ["Karras", "Beta"],
    "steps": [1, 7],
    "cfg_scale": [1.0, 12.0],
    "width": [96],
    "height": [72],
    "seed": [6],
    "batch_size": [3],
    "n_iter": [2],
    "model": ["tiny-b"],
    "clip_skip": [2],
    "eta": [0.5],
    "rng": ["CPU"],
    "subseed": [3],
    "subseed_strength": [0.4],
    "seed_resize_from_w": [{"seed_resize_from_w": 40, "seed_resize_from_h": 48}],
    "seed_resize_from_h": [{"seed_resize_from_w": 80, "seed_resize_from_h": 96}],
    "tiling": [True],
    "restore_faces": [],
    "disable_extra_networks": [True],
    "s_churn": [{"s_churn": 3.0, "steps": 6}],
    "s_tmin": [{"s_churn": 3.0, "s_tmin": 0.5}],
    "s_tmax": [{"s_churn": 3.0, "s_tmax": 5.0}],
    "s_noise": [{"s_churn": 3.0, "s_noise": 1.01}],
    "s_min_uncond": [3.0],
    "refiner_checkpoint": [{"refiner_checkpoint": "tiny-b", "refiner_switch_at": 0.5}],
    "refiner_switch_at": [{"refiner_checkpoint": "tiny-b", "refiner_switch_at": 0.2}],
    "denoising_strength": [{"kind": "img2img", "init_images": (PICTURE,), "denoising_strength": 0.3}],
    "hires": [{"hires": Hires(scale=1.5), "denoising_strength": 0.5}],
    "init_images": [{"kind": "img2img", "init_images": (PICTURE,), "denoising_strength": 0.9}],
    "resize_mode": [{"kind": "img2img", "init_images": (PICTURE,), "resize_mode": 3}],
    "image_cfg_scale": [3.0],
    "inpaint": [{"kind": "img2img", "init_images": (PICTURE,), "inpaint": Inpaint(mask=MASK, only_masked=True)}],
    "control": [],
    "script": [{"script": Script(name="prompt matrix"), "prompt": "a|b"}],
    "extras": [{"kind": "extras", "init_images": (PICTURE,), "extras": Extras(upscaler_1="Lanczos")}],
    "training": ["0" * 16],
    "options": [
        {"options": DrawOptions(emphasis="None"), "prompt": "a (red:1.5) circle"},
        DrawOptions(skip_early_cond=0.5),
        DrawOptions(sgm_noise_multiplier=True),
        DrawOptions(token_merging_ratio=0.5),
        DrawOptions(feature_cache_interval=2),
        DrawOptions(cfg_end=0.5),
        DrawOptions(sd_noise_schedule="Zero Terminal SNR"),
    ],
    "plugins": [{"plugins": {"wildcards": {"on": True}}, "prompt": "a {red|blue} circle"}],
}
"""For each field of a request, values that a neighbour may have, or several fields that go together.

`kind` comes with what it needs; `control` and `restore_faces` need files and have tests of their own.
"""


def test_every_field_is_varied() -> None:
    assert set(OTHER_VALUES) == set(GenerateRequest.model_fields)


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in OTHER_VALUES.items() for v in values])
def test_a_field_splits_the_batch_or_leaves_the_neighbour_alone(shared_bench: Bench, field: str, value: object) -> None:
    alone = shared_bench.draw(mine=BASE)["mine"]
    hand_in(shared_bench)
    fields = value if isinstance(value, dict) else {field: value}
    neighbour = BASE.model_copy(update={"seed": 77, **fields})
    together = shared_bench.draw(mine=BASE, neighbour=neighbour)
    assert together["neighbour"].error is None
    assert gap(alone, together["mine"]) <= 1


def test_pictures_of_a_batch_are_the_pictures_of_their_seeds(shared_bench: Bench) -> None:
    batch = shared_bench.draw(a=BASE.model_copy(update={"batch_size": 2, "n_iter": 2}))["a"]
    assert sorted(batch.images) == [0, 1, 2, 3]
    assert [batch.facts[i]["seed"] for i in range(4)] == [5, 6, 7, 8]
    single = shared_bench.draw(b=BASE.model_copy(update={"seed": 8}))["b"]
    assert np.abs(batch.images[3].astype(int) - single.images[0].astype(int)).max() <= 1


def test_a_newcomer_does_not_wait_for_a_long_job(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(engine_pictures=8)
    bench.engine.submit("long", BASE.model_copy(update={"n_iter": 50, "steps": 8}))
    for _ in range(12):
        bench.engine.step()
    bench.engine.submit("new", BASE)
    while "new" not in bench.drawn or not bench.drawn["new"].images:
        bench.engine.step()
    assert len(bench.drawn["long"].images) < 5
    bench.engine.cancel("long")


def test_cancel_stops_at_once_and_leaves_no_picture(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.engine.submit("a", BASE.model_copy(update={"steps": 100}))
    bench.engine.submit("b", BASE)
    while not bench.forwards:
        bench.engine.step()
    bench.engine.cancel("a")
    bench.finish()
    assert bench.drawn["a"].error is not None
    assert bench.drawn["a"].error.code == "cancelled"
    assert not bench.drawn["a"].images
    assert bench.drawn["b"].images


def test_interrupt_keeps_the_picture_so_far(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.engine.submit("a", BASE.model_copy(update={"steps": 100, "n_iter": 3}))
    while sum(kind is Kind.DENOISE for kind, _, _ in bench.forwards) < 5:
        bench.engine.step()
    bench.engine.interrupt("a")
    bench.finish()
    drawn = bench.drawn["a"]
    assert drawn.interrupted
    assert list(drawn.images) == [0]
    assert sum(kind is Kind.DENOISE for kind, _, _ in bench.forwards) <= 7


def test_progress_and_previews(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(preview_seconds=0.0)
    drawn = bench.draw(a=BASE.model_copy(update={"steps": 60}))["a"]
    steps = [step for step, _ in drawn.progress]
    assert steps == sorted(steps)
    assert {total for _, total in drawn.progress} == {60}
    assert steps[-1] == 60
    assert drawn.previews
    preview = Image.open(io.BytesIO(drawn.previews[-1]))
    assert preview.size == (8, 8)


def test_a_plan_that_fails_is_its_own_affair(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    make_plan = bench.engine._make_plan

    def sabotaged(request: GenerateRequest, index: int, track: Track) -> Iterator[Any]:
        if request.prompt == "broken":
            raise ZeroDivisionError("a fault of the plan")
        yield from make_plan(request, index, track)

    bench.engine._make_plan = sabotaged  # type: ignore[assignment]
    alone = bench.draw(mine=BASE)["mine"]
    together = bench.draw(mine=BASE, bad=BASE.model_copy(update={"prompt": "broken"}))
    assert together["bad"].error is not None
    assert together["bad"].error.code == "internal"
    assert gap(alone, together["mine"]) <= 1


def test_out_of_memory_splits_the_group(make_bench: Callable[..., Bench]) -> None:
    """An allocator that refuses more than two rows costs nobody a picture."""
    bench = make_bench(engine_gain=10.0)
    run = bench.workshop.runner.run

    def small_memory(kind: Kind, payloads: Any) -> list[Any]:
        if kind is Kind.DENOISE and sum(len(rows) for _, rows in payloads) > 2:
            raise torch.OutOfMemoryError("simulated")
        return run(kind, payloads)

    bench.workshop.runner.run = small_memory  # type: ignore[method-assign]
    drawn = bench.draw(**{f"job{i}": BASE.model_copy(update={"seed": i}) for i in range(4)})
    assert all(job.images and job.error is None for job in drawn.values())


def test_out_of_memory_of_one_row_is_an_error_that_says_what_fits(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    run = bench.workshop.runner.run

    def no_memory(kind: Kind, payloads: Any) -> list[Any]:
        if kind is Kind.DENOISE and any(row.x.shape[-1] > 8 for _, rows in payloads for row in rows):
            raise torch.OutOfMemoryError("simulated")
        return run(kind, payloads)

    bench.workshop.runner.run = no_memory  # type: ignore[method-assign]
    drawn = bench.draw(big=BASE.model_copy(update={"width": 128}), small=BASE)
    assert drawn["big"].error is not None
    assert drawn["big"].error.code == "out_of_memory"
    assert drawn["big"].error.params["width"] == 64
    assert drawn["small"].images


def test_numbers_that_are_none_fail_one_picture_by_name(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    drawn = bench.draw(bad=BASE.model_copy(update={"cfg_scale": 1e38}), good=BASE)
    assert drawn["bad"].error is not None
    assert drawn["bad"].error.code == "nan_picture"
    assert drawn["good"].images


def test_unknown_names_are_refused_by_name(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    drawn = bench.draw(
        sampler=BASE.model_copy(update={"sampler": "Eulre"}),
        model=BASE.model_copy(update={"model": "nothing-here"}),
        good=BASE,
    )
    codes = {name: job.error.code if job.error else None for name, job in drawn.items()}
    assert codes == {"sampler": "unknown_sampler", "model": "unknown_model", "good": None}


def test_nothing_is_left_when_all_is_done(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(engine_models=1)
    bench.draw(**company(6))
    assert bench.engine.idle
    assert len(bench.engine._scheduler) == 0
    assert all(count == 0 for count in bench.workshop.models._users.values())
