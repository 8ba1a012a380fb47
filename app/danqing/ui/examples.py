"""Prompts that a first visit offers: some that the miniature model was made for, some for every other model."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.errors import Language

MINI_SIZE = 256
"""Models that were trained on smaller pictures than this draw the miniature model's world."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt in both languages."""

    en: str
    zh: str

    def prompt(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


MINI: tuple[Example, ...] = (
    Example("a red star on a white background", "白色背景上的红色星形"),
    Example("a yellow circle on a blue background", "蓝色背景上的黄色圆形"),
    Example("a green triangle on a black background", "黑色背景上的绿色三角形"),
    Example("a pink heart on a white background", "白色背景上的粉色心形"),
)

GENERAL: tuple[Example, ...] = (
    Example("misty mountains, a lone boat, ink wash painting", "misty mountains, a lone boat, ink wash painting"),
    Example(
        "a bowl of ripe peaches, oil painting, soft window light", "a bowl of ripe peaches, oil painting, soft light"
    ),
    Example("a fox in the snow, watercolor, detailed fur", "a fox in the snow, watercolor, detailed fur"),
    Example("an old street in the rain at night, neon, photograph", "an old street in the rain at night, neon, photo"),
)


def examples_for(native_size: int) -> tuple[Example, ...]:
    """The prompts that suit a model trained on pictures of this side."""
    return MINI if native_size < MINI_SIZE else GENERAL
