"""What the four methods teach danqing-mini from twelve drawn pictures, judged by pixels, and what else changes.

Every picture is drawn by the engine from a prompt, as a user's would be. `bench.training_shape` has SD 1.5's shape.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.concepts import STAR, STYLE, THING, WORD, Concept
from bench.report import Cell, show
from danqing.mini.captions import caption
from danqing.mini.figures import Question, questions
from danqing.mini.judge import judge
from danqing.mini.scenes import sample_scene
from danqing.train.folder import Training, create
from danqing.train.recipe import parsed, preset

Picture = NDArray[np.uint8]

CHUNK = 6
"""Pictures that are drawn at once."""

CLASS_SEED = 77
"""Of the prompts for prior preservation; no judged prompt comes from it."""


def class_prompts(count: int) -> str:
    """Prompts of all the model's kinds, one a line."""
    rng = random.Random(CLASS_SEED)
    stages = ("one", "pairs", "people", "places", "pairs", "people", "one", "things")
    return "\n".join(caption(sample_scene(stages[k % len(stages)], rng), rng, 0.0, 0.0) for k in range(count))


@dataclass(frozen=True)
class Case:
    """One method on one concept. `tag`: what switches the result on in a prompt."""

    method: str
    concept: Concept
    tag: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.method


PRIOR: dict[str, Any] = {
    "class_prompt": class_prompts(96),
    "class_pictures": 96,
    "prior_weight": 2.0,
    "prior_target": "model",
}

GENTLE: dict[str, Any] = PRIOR | {
    "schedule": "cosine",
    "min_snr_gamma": 5.0,
    "noise_offset": 0.0,
    "ema": 0.97,
    "train_text_encoder": True,
}
"""The text encoder learns along, since the word's tokens mean nothing to it. A rate that falls, its wobble averaged away, and all
timesteps counted nearly alike, so that other pictures stay as they were."""

CASES = (
    Case("textual_inversion", THING, "", {"steps": 200}),
    Case(
        "lora",
        THING,
        f"<lora:{WORD}:1>",
        GENTLE | {"steps": 300, "learning_rate": 1e-3, "text_encoder_learning_rate": 3e-4},
    ),
    Case("dreambooth", THING, "", GENTLE | {"steps": 150, "learning_rate": 1.5e-4, "text_encoder_learning_rate": 7e-5}),
    Case(
        "dreambooth_lora",
        THING,
        f"<lora:{WORD}:1>",
        GENTLE | {"steps": 340, "learning_rate": 1.2e-3, "text_encoder_learning_rate": 4e-4, "rank": 16},
    ),
    Case(
        "hypernetwork",
        THING,
        f"<hypernet:{WORD}:0.8>",
        GENTLE
        | {
            "steps": 700,
            "learning_rate": 1.5e-3,
            "hypernetwork_activation": "swish",
            "train_text_encoder": False,
            "class_pictures": 192,
            "prior_weight": 6.0,
        },
    ),
)


def train(case: Case, root: Path, data: Path, drawn: Path | None = None, **fields: Any) -> Training:
    """Run the worker as the doors do, in a process of its own; one that was stopped goes on.

    `drawn`: pictures for prior preservation from an earlier training with the same prompts.
    """
    recipe = preset("cpu-mini", case.method) | {  # type: ignore[arg-type]
        "method": case.method,
        "name": WORD,
        "model": "danqing-mini.safetensors",
        "data": str(case.concept.write(data)),
        "caption_source": "filename",
        **case.fields,
        **fields,
    }
    wanted = parsed(recipe)
    begun = [Training(path) for path in root.glob("training/*")]
    training = next((found for found in begun if found.recipe() == wanted), None) or create(root, wanted)
    if drawn is not None and "class_prompt" in case.fields and not training.class_pictures.exists():
        shutil.copytree(drawn, training.class_pictures)
    command = [sys.executable, "-m", "danqing.train.worker", str(training.path), "--data", str(root), "--device", "cpu"]
    while training.result() is None:
        subprocess.run(command, check=True)
    return training


class Painter:
    """Draws with the engine, many prompts at once."""

    def __init__(self, root: Path) -> None:
        from danqing.engine.build import Workshop
        from danqing.engine.settings import ROWS
        from danqing.request import LIMITS
        from danqing.settings import Settings

        self._found: dict[str, Picture] = {}
        self._workshop = Workshop(root, Settings.load_known((*LIMITS, *ROWS), root), self._emit)

    def _emit(self, message: Any) -> None:
        body = message.body
        if body["event"] == "failed":
            raise RuntimeError(body["error"])
        if body["event"] == "image":
            facts = body["facts"]
            pixels = np.frombuffer(message.blobs[0], np.uint8)
            self._found[body["job"]] = pixels.reshape(facts["height"], facts["width"], 3).copy()

    def draw(self, prompts: Sequence[str], model: str, seeds: Sequence[int], steps: int = 20) -> list[Picture]:
        """DPM++ 2M Karras, CFG 5."""
        from danqing.request import GenerateRequest

        self._found.clear()
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            request = GenerateRequest(
                prompt=prompt,
                model=model,
                width=128,
                height=128,
                steps=steps,
                cfg_scale=5.0,
                seed=seed,
                sampler="DPM++ 2M",
                scheduler="Karras",
            )
            self._workshop.engine.submit(f"p{number}", request.resolved())
        self._workshop.engine.finish()
        return [self._found[f"p{number}"] for number in range(len(prompts))]


def others(count: int) -> list[Question]:
    """Prompts that do not ask for the concept, of all kinds, in full."""
    return [
        *questions("one", count // 2, seed=11),
        *questions("pairs", count // 4, seed=12),
        *questions("people", count - count // 2 - count // 4, seed=13),
    ]


def share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def measure(
    case: Case, root: Path, asked: Sequence[Question], count: int, base: Sequence[bool], notes: Path
) -> dict[str, Cell]:
    """How often the concept is there when it is asked for and when it is not, and how other prompts fare.

    `notes`: what was seen picture by picture, kept so that a measurement that was stopped goes on.
    """
    seen: dict[str, list[bool]] = json.loads(notes.read_text("utf-8")) if notes.is_file() else {}
    painter: Painter | None = None
    model = f"{WORD}.safetensors" if case.method == "dreambooth" else "danqing-mini.safetensors"
    concept, tag = case.concept, f" {case.tag}" if case.tag else ""
    prompts = [*concept.prompts(count), *(question.prompt for question in asked)]
    seeds = [*range(1000, 1000 + count), *range(2000, 2000 + len(asked))]
    for first in range(len(seen), len(prompts), CHUNK):
        painter = painter or Painter(root)
        part = slice(first, first + CHUNK)
        drawn = painter.draw([prompt + tag for prompt in prompts[part]], model, seeds[part])
        for number, picture in enumerate(drawn, first):
            right = number >= count and judge(picture, asked[number - count].scene).all
            seen[str(number)] = [concept.shows(picture), bool(right)]
        notes.write_text(json.dumps(seen), "utf-8")
    wanted, plain = ([seen[str(n)] for n in numbers] for numbers in (range(count), range(count, len(prompts))))
    right = share([row[1] for row in plain])
    return {
        "concept": concept.name,
        "with it %": percent(share([row[0] for row in wanted])),
        "without %": percent(share([row[0] for row in plain])),
        "others right %": percent(right),
        "kept %": percent(right / max(share(base), 1e-9)),
    }


def percent(value: float) -> Cell:
    return round(100 * value, 1)


def base_of(work: Path, asked: Sequence[Question], count: int) -> tuple[list[bool], dict[str, float]]:
    """What the untrained model does: which of the other prompts it gets right, and how often it shows each concept unasked."""
    kept = work / f"base-{count}.json"
    if kept.is_file():
        right, unasked = json.loads(kept.read_text("utf-8"))
        return right, unasked
    painter = Painter(work / "base")
    model = "danqing-mini.safetensors"
    plain = painter.draw([question.prompt for question in asked], model, range(2000, 2000 + len(asked)))
    right = [judge(picture, question.scene).all for picture, question in zip(plain, asked, strict=True)]
    unasked = {
        concept.name: share(
            [concept.shows(p) for p in painter.draw(concept.prompts(count), model, range(1000, 1000 + count))]
        )
        for concept in (STAR, STYLE, THING)
    }
    kept.write_text(json.dumps([right, unasked]), "utf-8")
    return right, unasked


def run(cases: Sequence[Case], count: int, keep: Path | None, fields: dict[str, Any]) -> None:
    """Train, measure, print."""
    asked = others(2 * count)
    rows: list[dict[str, Cell]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = keep or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        base, unasked = base_of(work, asked, count)
        shared = next(work.glob("*/training/*/class"), None)
        for case in cases:
            root = work / case.key
            training = train(case, root, work / "pictures" / case.key, shared, **fields)
            if training.class_pictures.is_dir():
                shared = training.class_pictures
            row = measure(case, root, asked, count, base, training.path / f"seen-{count}.json")
            figures = (training.result() or {})["figures"]
            rows.append({"method": case.method, **row, "steps": figures["steps"], "s": round(figures["seconds"])})
            print(json.dumps(rows[-1]), flush=True)
    notes = [
        f"{count} prompts with the concept, {len(asked)} other prompts; the untrained model has {percent(share(base))} % of "
        "those right, and shows the concepts, asked for by the same words, in "
        + ", ".join(f"{percent(v)} % ({name})" for name, v in unasked.items()),
        "With it: prompts that say the word, the file in use. Without: other prompts, the file in use. Kept: others right, "
        "over what the untrained model has.",
    ]
    show("training", "Training danqing-mini on twelve pictures", rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="which; all when none is named")
    parser.add_argument("--count", type=int, default=24, help="prompts with the concept; twice as many others")
    parser.add_argument("--steps", type=int, default=0, help="instead of each method's own number")
    parser.add_argument("--keep", type=Path, help="a folder for trainings and results, which then stay, and go on")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.methods or case.method in options.methods]
    run(cases, options.count, options.keep, {"steps": options.steps} if options.steps else {})


if __name__ == "__main__":
    main()
