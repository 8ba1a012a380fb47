"""What the model can do, measured: held-out and seen scenes, guidance, negatives, Chinese, poses.

Protocol: DPM++ 2M Karras, 20 steps, guidance 5, 128x128, one seed a picture, prompts in full.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from danqing.mini.captions import caption
from danqing.mini.judge import Verdict, judge, look
from danqing.mini.poses import POSES
from danqing.mini.scenes import COLOURS, PLACES, SHAPES, Scene, place_thing, sample_scene

STEPS, GUIDANCE = 20, 5.0
JUDGE_SEED = 10**9
Pictures = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Question:
    """A prompt and the scene that it asks for."""

    prompt: str
    scene: Scene


def draw(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    negative: str = "",
    guidance: float = GUIDANCE,
    seed: int = 0,
    steps: int = STEPS,
) -> Pictures:
    """Pictures (128, 128, 3) uint8, in batches of 16; picture k has seed `seed + k`."""
    pictures: Pictures = []
    for low in range(0, len(prompts), 16):
        part = prompts[low : low + 16]
        seeds = [torch.Generator().manual_seed(seed + low + k) for k in range(len(part))]
        result = pipeline(
            part,
            negative_prompt=[negative] * len(part),
            height=128,
            width=128,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds,
            output_type="np",
        )
        pictures += list((result.images * 255).round().astype(np.uint8))
    return pictures


def questions(stage: str, count: int, held_out: bool = False, chinese: float = 0.0, seed: int = 0) -> list[Question]:
    """Scenes of one stage with full captions, from seeds that training never uses."""
    rng = random.Random(JUDGE_SEED + seed)
    scenes = [sample_scene(stage, rng, held_out) for _ in range(count)]
    return [Question(caption(scene, rng, 0.0, chinese), scene) for scene in scenes]


def place_questions(count: int, seed: int = 0) -> list[Question]:
    """Small objects at every place in turn, the place always named."""
    rng = random.Random(JUDGE_SEED + seed)
    found: list[Question] = []
    while len(found) < count:
        scene = sample_scene("places", rng, True)
        thing = scene.things[0]
        place = list(PLACES)[len(found) % len(PLACES)]
        moved = Scene(scene.background, (place_thing(thing.kind, thing.colour, rng, "small", place),))
        where = "in the center" if place == "center" else caption_place(place)
        prompt = f"a small {thing.colour} {thing.kind} {where} on a {scene.background} background"
        found.append(Question(prompt, moved))
    return found


def caption_place(place: str) -> str:
    """The commonest words for a place."""
    if " " in place:
        return f"in the {place} corner"
    return f"at the {place}" if place in ("top", "bottom") else f"on the {place}"


def aspects_of(scene: Scene) -> tuple[str, ...]:
    """What is asked of a scene of this kind, and judged."""
    kind = scene.things[0].kind
    if scene.relation:
        return ("background", "colour", "shape")
    if kind == "person":
        return ("background", "colour", "pose")
    return ("background", "colour", "shape", "place") if kind in SHAPES else ("background", "colour", "place")


def shares(verdicts: list[Verdict], asked: list[Question]) -> dict[str, float]:
    """Share of right answers for every aspect asked, for all at once, and the number of pictures."""
    aspects = (*aspects_of(asked[0].scene), "all")
    found = {aspect: round(float(np.mean([getattr(v, aspect) for v in verdicts])), 3) for aspect in aspects}
    return {"count": len(verdicts), **found}


def verdicts_of(pictures: Pictures, asked: list[Question]) -> list[Verdict]:
    """Judge pictures against the scenes asked for."""
    return [judge(picture, question.scene) for picture, question in zip(pictures, asked, strict=True)]


def ask(pipeline: StableDiffusionPipeline, asked: list[Question], **options: Any) -> dict[str, float]:
    """Draw and judge some questions."""
    pictures = draw(pipeline, [q.prompt for q in asked], **options)
    return shares(verdicts_of(pictures, asked), asked)


def negative_effect(pipeline: StableDiffusionPipeline, count: int) -> dict[str, Any]:
    """Colours of "a circle" without and with each of the two commonest colours as the negative prompt."""
    prompts = ["a circle on a white background"] * count

    def colours(negative: str) -> list[str]:
        return [look(p).colour for p in draw(pipeline, prompts, negative, seed=500)]

    plain = colours("")
    common = sorted(COLOURS, key=plain.count)[-2:]
    found = {}
    for colour in common:
        after = colours(f"a {colour} circle")
        found[colour] = {"before": plain.count(colour) / count, "after": after.count(colour) / count}
    return found


def sharpness(pictures: Pictures) -> float:
    """Mean over rows of the steepest horizontal step in grey levels: 0 flat, 255 a perfect edge."""
    return float(np.mean([np.abs(np.diff(p.mean(-1), axis=1)).max(1).mean() for p in pictures]))


def _say(line: str) -> None:
    print(line, flush=True)


def measure(pipeline: StableDiffusionPipeline, count: int, say: Callable[[str], None] = _say) -> dict[str, Any]:
    """The whole table; `count` pictures for held-out prompts, a half or a quarter of that for the rest."""
    half, quarter = max(1, count // 2), max(1, count // 4)
    table: dict[str, Any] = {"protocol": f"DPM++ 2M Karras, {STEPS} steps, guidance {GUIDANCE}, 128x128"}

    def put(name: str, value: Any) -> None:
        table[name] = value
        say(f"{name}: {value}")

    held_out = questions("one", count, True)
    pictures = draw(pipeline, [q.prompt for q in held_out])
    put("held out", shares(verdicts_of(pictures, held_out), held_out))
    put("sharpness", round(sharpness(pictures), 1))
    put("two objects", ask(pipeline, questions("pairs", half)))
    put("places", ask(pipeline, place_questions(half)))
    put("poses", ask(pipeline, questions("people", half)))
    put("chinese, held out", ask(pipeline, questions("one", half, True, 1.0)))
    for guidance in (1.0, 2.5, 8.0):
        put(f"held out, guidance {guidance}", ask(pipeline, held_out[:quarter], guidance=guidance))
    put("negative", negative_effect(pipeline, quarter))
    put("seen", ask(pipeline, questions("one", quarter)))
    put("held out, any place and size", ask(pipeline, questions("places", quarter, True)))
    put("two objects, held out", ask(pipeline, questions("pairs", quarter, True)))
    put("things", ask(pipeline, questions("things", quarter)))
    put("chinese, places", ask(pipeline, questions("places", quarter, True, 1.0)))
    put("chinese, two objects", ask(pipeline, questions("pairs", quarter, chinese=1.0)))
    put("poses known", list(POSES))
    return table
