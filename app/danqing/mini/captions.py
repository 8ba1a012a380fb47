"""Scenes into English and Chinese words, differently worded every time.

`drop` is the chance that a detail (background, place, size, colour, pose) goes unsaid; early training
says everything, later training leaves things out so that short prompts work too.
"""

from __future__ import annotations

import random

from danqing.mini.scenes import Scene, Thing

ZH_COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "gray": "灰色",
    "cyan": "青色",
}
ZH_KINDS = {
    "circle": ("圆形", "圆"),
    "square": ("正方形", "方形"),
    "triangle": ("三角形",),
    "star": ("星形", "五角星", "星星"),
    "heart": ("心形", "爱心"),
    "ring": ("圆环", "环形"),
    "cross": ("十字形", "十字"),
    "moon": ("月牙", "月亮"),
    "diamond": ("菱形",),
    "house": ("房子",),
    "tree": ("树",),
    "flower": ("花",),
    "cat": ("猫",),
    "person": ("人",),
}
_ZH_MEASURES = {"house": "座", "tree": "棵", "flower": "朵", "cat": "只"}
_EN_KINDS = {"moon": ("moon", "moon", "crescent"), "cat": ("cat", "cat", "cat face")}
_EN_SIZES = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
_ZH_SIZES = {"small": "小的", "large": "大的"}
_EN_PLACES = {
    "center": ("in the center", "in the middle"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "top left": ("in the top left corner", "at the top left"),
    "top right": ("in the top right corner", "at the top right"),
    "bottom left": ("in the bottom left corner", "at the bottom left"),
    "bottom right": ("in the bottom right corner", "at the bottom right"),
}
ZH_PLACES = {
    "center": "中间",
    "left": "左边",
    "right": "右边",
    "top": "上方",
    "bottom": "下方",
    "top left": "左上角",
    "top right": "右上角",
    "bottom left": "左下角",
    "bottom right": "右下角",
}
_EN_POSES = {
    "standing": ("standing",),
    "waving": ("waving", "waving a hand"),
    "arms up": ("with arms up", "with raised arms"),
    "arms out": ("with arms out", "with arms spread"),
    "jumping": ("jumping",),
}
ZH_POSES = {
    "standing": "站着",
    "waving": "挥手",
    "arms up": "举起双手",
    "arms out": "张开双臂",
    "jumping": "跳起来",
}


def caption(scene: Scene, rng: random.Random, drop: float = 0.0, chinese: float = 0.35) -> str:
    """A caption of a scene, Chinese with the given chance."""
    words = _Chinese(scene, rng, drop) if rng.random() < chinese else _English(scene, rng, drop)
    return words.caption()


def article(words: str) -> str:
    """The words with their indefinite article."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


class _Words:
    """Choices that both languages share."""

    def __init__(self, scene: Scene, rng: random.Random, drop: float) -> None:
        self.scene, self.rng, self.drop = scene, rng, drop

    def says(self, factor: float = 1.0) -> bool:
        """Whether the next detail is said."""
        return self.rng.random() >= self.drop * factor

    def place(self, thing: Thing) -> str:
        """The place to name: always for things off the centre unless dropped, rarely in the centre."""
        if thing.place == "center":
            return "center" if thing.size != "large" and self.rng.random() < 0.4 else ""
        return thing.place if self.says() else ""


class _English(_Words):
    def caption(self) -> str:
        background = f"{self.scene.background} background" if self.says() else ""
        tags = self.rng.random() < 0.25
        words = self._pair(tags) if self.scene.relation else self._single(tags)
        if not tags and self.rng.random() < 0.1:
            words = f"{self.rng.choice(('a picture', 'a drawing'))} of {words}"
        if not background:
            return words
        if tags or self.rng.random() < 0.4:
            return f"{words}, {background}"
        return f"{words} on {article(background)}"

    def _single(self, tags: bool) -> str:
        (thing,) = self.scene.things
        noun = self._noun(thing)
        words = noun if tags else article(noun)
        place = self.place(thing)
        if not place:
            return words
        return f"{words}{', ' if tags else ' '}{self.rng.choice(_EN_PLACES[place])}"

    def _noun(self, thing: Thing) -> str:
        if thing.kind == "person":
            return self._person(thing)
        words = [self.rng.choice(_EN_KINDS.get(thing.kind, (thing.kind,)))]
        if self.says(0.4):
            words.insert(0, thing.colour)
        if thing.size != "medium" and not self.scene.relation and self._names_size(thing):
            words.insert(0, self.rng.choice(_EN_SIZES[thing.size]))
        return " ".join(words)

    def _names_size(self, thing: Thing) -> bool:
        return self.says() and (thing.size == "small" or self.rng.random() < 0.5)

    def _person(self, thing: Thing) -> str:
        words = self.rng.choice(("person", "person", "man", "figure"))
        if self.says(0.6) and thing.pose:
            words += " " + self.rng.choice(_EN_POSES[thing.pose])
        if self.says():
            words += self.rng.choice((" in a {} shirt", " wearing a {} shirt")).format(thing.colour)
        return words

    def _pair(self, tags: bool) -> str:
        first, second = (self._noun(thing) for thing in self.scene.things)
        if not tags:
            first, second = article(first), article(second)
        beside = self.scene.relation == "left"
        if not self.says(1.5):
            joined = [first, second]
            self.rng.shuffle(joined)
            return ", ".join(joined) if tags else " and ".join(joined)
        form = self.rng.random()
        if form < 0.45:
            after = self.rng.choice(("left of", "to the left of")) if beside else "above"
            return f"{first} {after} {second}"
        if form < 0.75:
            after = self.rng.choice(("right of", "to the right of")) if beside else "below"
            return f"{second} {after} {first}"
        here, there = ("on the left", "on the right") if beside else ("at the top", "at the bottom")
        return f"{first} {here}{', ' if tags else ' and '}{second} {there}"


class _Chinese(_Words):
    def caption(self) -> str:
        words = self._pair() if self.scene.relation else self._single()
        if not self.says():
            return words
        colour = ZH_COLOURS[self.scene.background]
        if self.rng.random() < 0.3:
            return f"{colour}背景上的{words}" if not self.scene.relation else f"{colour}背景，{words}"
        return f"{words}，{colour}背景"

    def _single(self) -> str:
        (thing,) = self.scene.things
        noun, place = self._noun(thing), self.place(thing)
        if not place:
            return noun
        where = ZH_PLACES[place]
        return f"{noun}在{where}" if self.rng.random() < 0.5 else f"{where}有{noun}"

    def _noun(self, thing: Thing) -> str:
        if thing.kind == "person":
            return self._person(thing)
        kind = self.rng.choice(ZH_KINDS[thing.kind])
        of = "的" if self.rng.random() < 0.7 else ""
        colour = f"{ZH_COLOURS[thing.colour]}{of}" if self.says(0.4) else ""
        size = ""
        if thing.size != "medium" and not self.scene.relation and self.says():
            size = _ZH_SIZES[thing.size]
        count = f"一{_ZH_MEASURES.get(thing.kind, '个')}" if self.rng.random() < 0.6 else ""
        return f"{count}{size}{colour}{kind}"

    def _person(self, thing: Thing) -> str:
        shirt = f"穿{ZH_COLOURS[thing.colour]}上衣的" if self.says() else ""
        pose = ZH_POSES[thing.pose] if self.says(0.6) and thing.pose else ""
        return f"一个{shirt}人{pose}"

    def _pair(self) -> str:
        first, second = (self._noun(thing) for thing in self.scene.things)
        here, there = ("左边", "右边") if self.scene.relation == "left" else ("上面", "下面")
        if not self.says(1.5):
            return f"{first}和{second}"
        form = self.rng.random()
        if form < 0.5:
            return f"{here}是{first}，{there}是{second}"
        return f"{first}在{here}，{second}在{there}" if form < 0.75 else f"{first}在{second}的{here}"
