"""Files that the four methods made of danqing-mini: through the engine, from a prompt, each does what it was made to.

`assets/` was trained by `bench.training`; the concepts and their pixel analysis are `bench.concepts`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import concepts
from bench.concepts import STAR, STYLE, THING, WORD, Concept, Picture
from bench.training import Painter

ASSETS = Path(__file__).parent / "assets"
FILES = {
    "embedding": ("zqx-embedding.pt", f"embeddings/{WORD}.pt"),
    "hypernetwork": ("zqx-hypernetwork.pt", f"models/hypernetworks/{WORD}.pt"),
    "lora": ("zqx-lora.safetensors", f"models/Lora/{WORD}.safetensors"),
}
CASES = [
    pytest.param("embedding", THING, "", id="embedding"),
    pytest.param("hypernetwork", THING, f" <hypernet:{WORD}:1>", id="hypernetwork"),
    pytest.param("lora", THING, f" <lora:{WORD}:1>", id="lora"),
]
COUNT = 3

Draw = Callable[[str, list[str]], list[Picture]]


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """Draws prompts with one of the files in its folder; "" for none."""
    painters: dict[str, Any] = {}

    def drawn(kind: str, prompts: list[str]) -> list[Picture]:
        if kind not in painters:
            root = tmp_path_factory.mktemp(kind or "plain")
            if kind:
                source, target = FILES[kind]
                root.joinpath(target).parent.mkdir(parents=True)
                shutil.copy(ASSETS / source, root / target)
            painters[kind] = Painter(root)
        found: list[Picture] = painters[kind].draw(
            prompts, "danqing-mini.safetensors", range(5000, 5000 + len(prompts)), steps=12
        )
        return found

    return drawn


@pytest.mark.parametrize(("kind", "concept", "tag"), CASES)
def test_a_trained_file_does_what_it_was_made_to(draw: Draw, kind: str, concept: Concept, tag: str) -> None:
    """The pictures show the concept, one may fail; the same words without the file show none of it."""
    prompts = concept.prompts(COUNT)
    shown = [concept.shows(picture) for picture in draw(kind, [prompt + tag for prompt in prompts])]
    assert sum(shown) >= COUNT - 1, shown
    assert not any(concept.shows(picture) for picture in draw("", prompts[:2]))


def test_the_judges_know_their_concepts() -> None:
    """Each is seen in every picture that it was drawn into, and in none of the others'."""
    everything = (STAR, STYLE, THING)
    for concept in everything:
        pictures = [np.asarray(concept.draw(number)[0]) for number in range(concepts.PICTURES)]
        for judged in everything:
            assert [judged.shows(picture) for picture in pictures] == [judged is concept] * len(pictures)
