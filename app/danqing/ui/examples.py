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
    Example("a pink heart on a white background", "白色背景上的粉色心形"),
    Example("an orange cat on a blue background", "一只橙色的猫，蓝色背景"),
    Example("a blue ring on a yellow background", "黄色背景上的蓝色圆环"),
    Example("a green tree on a white background", "一棵绿色的树，白色背景"),
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
