"""How well the miniature ControlNets are followed: unseen scenes, drawn by the engine, judged from the pixels alone.

One row for each kind: without control, with the unit from 0 to half of the steps, with the unit for all of them; then how far the
prompt's colours are followed. A last row has two units of different kinds, each of which shows one of two objects.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.report import Cell, show
from danqing.engine.build import Workshop
from danqing.engine.protocol import Message
from danqing.engine.settings import ROWS
from danqing.gallery import inputs
from danqing.mini.captions import caption
from danqing.mini.control_data import KINDS, Case, case, hint_of
from danqing.mini.control_judge import FOLLOWED, Followed, edge_overlap, edges
from danqing.mini.control_nets import control_file
from danqing.mini.drawing import render
from danqing.mini.scenes import SIZE, Scene, sample_scene
from danqing.request import LIMITS, ControlUnit, GenerateRequest
from danqing.settings import Settings

FIRST_SEED = 10**9
"""Training has smaller ones."""

TOGETHER = 8
"""Pictures that share the engine's steps."""

ALONE = 4
"""Cases whose picture under weight 0 is compared with the one without control."""

STEPS, GUIDANCE = 20, 5.0
MEASURED = {"canny": "edge IoU at 2 px", "depth": "depth order", "pose": "joints within 8 px"}

Pixels = np.ndarray[Any, Any]


@dataclass
class Easel:
    """An engine over a data folder, with the miniature model and its ControlNets."""

    data: Path
    steps: int = STEPS
    pictures: dict[str, list[Pixels]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workshop = Workshop(self.data, Settings((*LIMITS, *ROWS), {"engine_threads": 1}), self._hear)
        self.model = self.workshop.library.resolve("danqing-mini").title

    def _hear(self, message: Message) -> None:
        body = message.body
        if body["event"] == "failed":
            raise SystemExit(str(body["error"]))
        if body["event"] == "image":
            shape = (body["facts"]["height"], body["facts"]["width"], 3)
            picture = np.frombuffer(message.blobs[0], np.uint8).reshape(shape)
            self.pictures.setdefault(body["job"], []).append(picture)

    def unit(self, kind: str, hint: Pixels, **fields: Any) -> ControlUnit:
        """A unit that shows a map as it is."""
        name = inputs.keep_image(self.data, Image.fromarray(hint))
        return ControlUnit(model=control_file(kind).stem, image=name, save_detected_map=False, **fields)

    def request(self, scene: Scene, seed: int, *units: ControlUnit) -> GenerateRequest:
        """The request for a scene in words, under the control of some units."""
        words = caption(scene, random.Random(seed), 0.0, 0.0)
        return GenerateRequest(
            prompt=words, sampler="DPM++ 2M", scheduler="Karras", steps=self.steps, cfg_scale=GUIDANCE, width=SIZE, height=SIZE,
            seed=seed, model=self.model, rng="CPU", control=units,
        )  # fmt: skip

    def draw(self, requests: Sequence[GenerateRequest]) -> list[Pixels]:
        """One picture for each request."""
        found: list[Pixels] = []
        for low in range(0, len(requests), TOGETHER):
            names = [f"{low + k}" for k in range(len(requests[low : low + TOGETHER]))]
            for name, request in zip(names, requests[low:], strict=False):
                self.workshop.engine.submit(name, request.resolved())
            self.workshop.engine.finish()
            found += [self.pictures.pop(name)[0] for name in names]
        return found


def cases(kind: str, count: int) -> list[Case]:
    """Unseen scenes with exact maps; shapes and colours in pairs that no training showed."""
    return [case(kind, FIRST_SEED + k, held_out=kind != "pose", exact=True) for k in range(count)]


def drawn(easel: Easel, kind: str, rows: Sequence[Case], **fields: Any) -> list[Pixels]:
    """The pictures of some cases under a unit with the given fields."""
    return easel.draw([easel.request(one.scene, k, easel.unit(kind, one.hint, **fields)) for k, one in enumerate(rows)])


def plain(easel: Easel, rows: Sequence[Case]) -> list[Pixels]:
    """The same without control."""
    return easel.draw([easel.request(one.scene, k) for k, one in enumerate(rows)])


def followed(kind: str, rows: Sequence[Case], pictures: Sequence[Pixels]) -> Followed:
    """The mean verdict over some pictures."""
    found = [FOLLOWED[kind](picture, one.scene, one.hint) for one, picture in zip(rows, pictures, strict=True)]
    return Followed(float(np.mean([one.share for one in found])), float(np.mean([one.colour for one in found])))


@dataclass
class Record:
    """Verdicts by kind, manner and case; with a file they are kept, and a run that was stopped goes on from there."""

    file: Path | None = None
    known: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None and self.file.exists():
            self.known = json.loads(self.file.read_text("utf-8"))

    def put(self, found: dict[str, list[float]]) -> None:
        """Add some and keep all."""
        self.known |= found
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(json.dumps(self.known), "utf-8")


def judged(easel: Easel, record: Record, kind: str, manner: str, rows: Sequence[Case]) -> Followed:
    """The mean verdict over cases drawn in one manner: "without" control, "half" of the steps, "whole"."""
    todo = [k for k in range(len(rows)) if f"{kind}/{manner}/{k}" not in record.known]
    for low in range(0, len(todo), TOGETHER):
        places = todo[low : low + TOGETHER]
        units = {"without": {}, "half": {"guidance_end": 0.5}, "whole": {}}[manner]
        asked = [
            easel.request(rows[k].scene, k, *([] if manner == "without" else [easel.unit(kind, rows[k].hint, **units)]))
            for k in places
        ]
        verdicts = [
            FOLLOWED[kind](picture, rows[k].scene, rows[k].hint)
            for k, picture in zip(places, easel.draw(asked), strict=True)
        ]
        record.put({f"{kind}/{manner}/{k}": [v.share, v.colour] for k, v in zip(places, verdicts, strict=True)})
    found = np.array([record.known[f"{kind}/{manner}/{k}"] for k in range(len(rows))])
    return Followed(*(float(value) for value in found.mean(0)))


def row_of(easel: Easel, record: Record, kind: str, count: int) -> dict[str, Cell]:
    """A kind's line of the table."""
    rows = cases(kind, count)
    shares = {"whole": 1, "without": 4, "half": 4}
    seen = {manner: judged(easel, record, kind, manner, rows[: max(1, count // n)]) for manner, n in shares.items()}
    return {
        "control": kind,
        "measure": MEASURED[kind],
        "pictures": count,
        **{f"{manner} %": percent(seen[manner].share) for manner in ("without", "half", "whole")},
        "colour without %": percent(seen["without"].colour),
        "colour %": percent(seen["whole"].colour),
        "weight 0 is none": "yes" if all(weightless(easel, kind, one) for one in rows[:ALONE]) else "no",
    }


def weightless(easel: Easel, kind: str, one: Case) -> bool:
    """Whether a unit of weight 0 changes nothing. Drawn alone: in company a row's last bit depends on how many there are."""
    (without,), (nothing,) = plain(easel, [one]), drawn(easel, kind, [one], weight=0.0)
    return bool((without == nothing).all())


PARTS = {"without": (), "edges": (0,), "depth": (1,), "whole": (0, 1)}
"""Manner of drawing two objects -> which of their two units act."""


def two_units(easel: Easel, count: int, record: Record | None = None) -> dict[str, Cell]:
    """Two objects, the first by its edges, the second by its depth: overlap of the edges with each unit alone and with both."""
    record = record or Record()
    for low in range(0, count, TOGETHER):
        places = range(low, min(low + TOGETHER, count))
        for name, chosen in PARTS.items():
            todo = {k: two_objects(k) for k in places if f"two/{name}/{k}" not in record.known}
            units = {k: [_parts(easel, scene)[part] for part in chosen] for k, scene in todo.items()}
            pictures = easel.draw([easel.request(scene, k, *units[k]) for k, scene in todo.items()])
            record.put(
                {
                    f"two/{name}/{k}": [
                        edge_overlap(edges(np.asarray(render(scene, random.Random(0)))), edges(picture))
                    ]
                    for (k, scene), picture in zip(todo.items(), pictures, strict=True)
                }
            )
    shares = {name: np.mean([record.known[f"two/{name}/{k}"][0] for k in range(count)]) for name in PARTS}
    return {
        "control": "canny + depth",
        "measure": "edge IoU at 2 px",
        "pictures": count,
        **{f"{name} %": percent(float(share)) for name, share in shares.items()},
    }


def two_objects(seed: int) -> Scene:
    """Two shapes side by side, or one above the other."""
    scene = sample_scene("pairs", random.Random(FIRST_SEED + seed), held_out=True)
    return replace(scene, things=tuple(replace(thing, near=0.9) for thing in scene.things))


def _parts(easel: Easel, scene: Scene) -> tuple[ControlUnit, ControlUnit]:
    first, second = (replace(scene, things=(thing,)) for thing in scene.things)
    outline = hint_of("canny", first, np.asarray(render(first, random.Random(0))))
    return easel.unit("canny", outline), easel.unit("depth", hint_of("depth", second, outline))


def percent(share: float) -> Cell:
    return f"{100 * share:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.control_mini", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="pictures of each kind")
    parser.add_argument("--kind", choices=(*KINDS, "two"), action="append", help="only this row; may be repeated")
    parser.add_argument("--nets", type=Path, help="folder of ControlNets instead of the shipped ones")
    parser.add_argument("--resume", type=Path, help="file of verdicts: what it holds is not drawn again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = Record(options.resume)
    with tempfile.TemporaryDirectory() as data:
        if options.nets:
            folder = Path(data, "models", "ControlNet")
            folder.mkdir(parents=True)
            for path in (control_file(kind, options.nets) for kind in KINDS):
                if path.is_file():
                    shutil.copy(path, folder)
        easel = Easel(Path(data))
        wanted = options.kind or [*KINDS, "two"]
        rows = [
            two_units(easel, max(1, options.count // 4), record)
            if kind == "two"
            else row_of(easel, record, kind, options.count)
            for kind in wanted
        ]
    notes = [
        f"DPM++ 2M Karras, {STEPS} steps, guidance {GUIDANCE}, {SIZE}x{SIZE}, weight 1, balanced; seeds that training never has.",
        "A quarter as many pictures without control, and with the unit for the first half of the steps.",
        "Depth order: the near object hides the far one where they overlap, and both stand out from what is behind.",
    ]
    show(
        "control_mini" if not options.kind else "control_mini_" + "_".join(wanted), "Miniature ControlNets", rows, notes
    )


if __name__ == "__main__":
    main()
