"""Prompts that a first visit offers: some that the miniature model was made for, some for every other model."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from danqing.errors import Language

MINI_SIZE = 256
"""Models that were trained on smaller pictures than this draw the miniature model's world."""


FOLDER = Path(__file__).parents[1] / "assets" / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt in both languages. `drawn`: the file of what the model drew of it, "" where there is none."""

    en: str
    zh: str
    drawn: str = ""

    def prompt(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en

    def picture(self) -> str:
        """What the model drew of it, small, as an address that holds it whole; "" where there is none."""
        return _address(self.drawn) if self.drawn else ""


@cache
def _address(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode((FOLDER / name).read_bytes()).decode()


MINI: tuple[Example, ...] = (
    Example("a pink heart on a white background", "白色背景上的粉色心形", "heart.png"),
    Example("an orange cat on a blue background", "一只橙色的猫，蓝色背景", "cat.png"),
    Example("a blue ring on a yellow background", "黄色背景上的蓝色圆环", "ring.png"),
    Example("a green tree on a white background", "一棵绿色的树，白色背景", "tree.png"),
)

GENERAL: tuple[Example, ...] = (
    Example("misty mountains, a lone boat, ink wash painting", "薄雾，群山，小船，水墨画"),
    Example("a bowl of ripe peaches, oil painting, soft window light", "桃子，油画，窗边柔光"),
    Example("a fox in the snow, watercolor, detailed fur", "雪中的狐狸，水彩画"),
    Example("an old street in the rain at night, neon, photograph", "雨夜的老街，霓虹灯，照片"),
)


def examples_for(native_size: int) -> tuple[Example, ...]:
    """The prompts that suit a model trained on pictures of this side."""
    return MINI if native_size < MINI_SIZE else GENERAL
