"""A gallery on a real database."""

from __future__ import annotations

import random
from pathlib import Path

from danqing.database import Database
from danqing.engine.protocol import ImageFacts
from danqing.gallery.store import Gallery, NewPicture
from danqing.jobs.store import MIGRATIONS

FACTS = ImageFacts(42, 16, 8, "tiny", "dcb4c28710", "Karras")


def open_gallery(data: Path) -> tuple[Gallery, Database]:
    data.mkdir(exist_ok=True)
    database = Database.open(data / "danqing.db", MIGRATIONS)
    return Gallery(data, database), database


def new_picture(job: str = "j", index: int = 0, *, side: int = 16, **fields: object) -> NewPicture:
    facts = ImageFacts(42 + index, side, side, "tiny", "dcb4c28710", "Karras")
    values = {
        "owner": "li",
        "job": job,
        "index": index,
        "pixels": random.Random(index).randbytes(side * side * 3),
        "facts": facts,
        "infotext": "一只猫\nSteps: 20, Sampler: Euler, Seed: 42",
        "temporary": False,
    }
    return NewPicture(**(values | fields))  # type: ignore[arg-type]
