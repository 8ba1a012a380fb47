"""Contact sheets: of the training data, and of what the model draws."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.mini.drawing import render
from danqing.mini.scenes import SIZE, STAGES, sample_scene

GALLERY = (
    "a red circle on a white background",
    "a large blue star on a yellow background",
    "a purple heart, pink background",
    "a yellow moon on a blue background",
    "a small green triangle in the top left corner, white background",
    "a small orange ring at the bottom right, black background",
    "a red heart on the left and a blue star on the right, white background",
    "a yellow moon above a pink diamond, black background",
    "a person waving in a red shirt, white background",
    "a person with arms up in a green shirt, yellow background",
    "a person jumping in a blue shirt, pink background",
    "a person with arms out in a purple shirt, cyan background",
    "a red house on a white background",
    "a green tree, cyan background",
    "a pink flower on a white background",
    "an orange cat on a blue background",
    "一个红色的圆形，白色背景",
    "左边是绿色的方形，右边是一个黄色的星形，蓝色背景",
    "一个穿蓝色上衣的人在挥手，白色背景",
    "一只黑色的猫，黄色背景",
    "a red heart",
    "a star",
    "a cat",
    "a person",
)


def grid(pictures: list[NDArray[np.uint8]], columns: int = 8) -> Image.Image:
    """Pictures (SIZE, SIZE, 3) side by side."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (SIZE * columns, SIZE * rows))
    for index, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (SIZE * (index % columns), SIZE * (index // columns)))
    return sheet


def data_sheet(path: Path, seed: int = 0) -> None:
    """Two rows of every stage's training data."""
    rng = random.Random(seed)
    grid([render(sample_scene(stage, rng), rng) for stage in STAGES for _ in range(16)]).save(path)
