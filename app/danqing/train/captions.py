"""Captions: beside pictures, from file names, from templates; read and edited beside the prepared copies only. No torch."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from danqing.errors import DanqingError
from danqing.library.whole import replace_whole
from danqing.train.folder import Training, write_error
from danqing.train.recipe import TrainRequest

SIDECARS = (".txt", ".caption")

NUMBER = re.compile(r"^[-\d\s_.]+")
"""What file names begin with for the order's sake."""


def decoded(name: str, content: bytes, limit: int) -> str:
    """The text of a caption's file on one line.

    Raises:
        DanqingError: `train_caption_long`, `train_caption_broken`.
    """
    try:
        text = " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise DanqingError("train_caption_broken", file=name, reason="it is not UTF-8") from None
    return checked(name, text, limit)


def checked(name: str, text: str, limit: int) -> str:
    """`text`, when it can be a caption.

    Raises:
        DanqingError: `train_caption_long`, `train_caption_broken`.
    """
    if len(text) > limit:
        raise DanqingError("train_caption_long", file=name, length=len(text), maximum=limit)
    if "\0" in text:
        raise DanqingError("train_caption_broken", file=name, reason="it holds NUL characters")
    return text


def words_of(name: str) -> str:
    """What a file name says: without folders, ending and leading numbers, underscores as spaces."""
    return " ".join(NUMBER.sub("", PurePosixPath(name).stem).replace("_", " ").split())


def read(training: Training) -> dict[str, str]:
    """The captions of the prepared pictures: file name → text."""
    return {
        path.name: _text(path.with_suffix(".txt").read_text("utf-8"))
        for path in sorted(training.pictures.glob("*.png"))
        if not path.stem.endswith("-mask") and path.with_suffix(".txt").is_file()
    }


def _text(content: str) -> str:
    return content.removesuffix("\n")


def write(training: Training, file: str, text: str, limit: int = 2000) -> None:
    """Give a prepared picture another caption. The originals stay as they are.

    Raises:
        DanqingError: `train_picture_broken` for a picture that is not there; `train_caption_long`, `train_caption_broken`;
            `disk_full`, `cannot_write`.
    """
    path = training.pictures / file
    if path.parent != training.pictures or path.suffix != ".png" or not path.is_file():
        raise DanqingError("train_picture_broken", file=file[:100], reason="there is no prepared picture of this name")
    text = checked(file, " ".join(text.split()), limit)
    try:
        replace_whole(path.with_suffix(".txt"), text.encode() + b"\n")
    except OSError as error:
        raise write_error(path, error) from None


def spoken(word: str) -> re.Pattern[str]:
    """Where a text says `word`: as a word of its own, in upper or lower case."""
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


def filled(template: str, word: str, filewords: str = "") -> str:
    """A template with the trigger and the picture's own words in it."""
    text = template.replace("[name]", word).replace("[filewords]", filewords)
    return " ".join(text.split()).strip(" ,")


def caption_of(recipe: TrainRequest, own: str, rng: random.Random) -> str:
    """What the model reads with a picture whose own caption is `own`. `rng` chooses template, order of tags and dropout."""
    dropped = rng.random() < recipe.caption_dropout
    text = own
    if recipe.caption_source == "template":
        text = filled(rng.choice(lines(recipe.template) or ["[name]"]), recipe.word, own)
    else:
        text = text.replace("[name]", recipe.word)
    # A training of one word that its captions never say would learn nothing.
    if recipe.method == "textual_inversion" and not spoken(recipe.word).search(text):
        text = f"{recipe.word}, {text}" if text else recipe.word
    if recipe.shuffle_tags:
        text = _shuffled(text, rng)
    return "" if dropped else text


def _shuffled(text: str, rng: random.Random) -> str:
    first, *rest = text.split(",")
    rng.shuffle(rest)
    return ",".join([first, *rest])


def lines(text: str) -> Sequence[str]:
    """The lines that say something."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def class_prompts(recipe: TrainRequest) -> list[str]:
    """The prompt of each picture that the model draws itself; () without prior preservation."""
    prompts = lines(recipe.class_prompt)
    return [prompts[index % len(prompts)] for index in range(recipe.class_pictures)] if prompts else []
