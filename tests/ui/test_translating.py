"""Chinese prompts: the dictionary first, the model for whole runs that it does not know; weights and syntax survive."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from danqing.errors import DanqingError
from danqing.prompt.terms import translated, unknown_runs
from danqing.settings import Settings
from danqing.ui.context import UiContext
from danqing.ui.translating import Translations, way_of
from tests.ui.conftest import FakeLibrary

PROMPT = "(水墨画:1.3)，[饕餮纹:狻猊:0.5], <lora:饕餮:0.8> 狻猊, cat"


class Service(SimpleNamespace):
    """Answers as the engine would, and writes down what it was asked."""

    async def translate(self, texts: list[str]) -> list[str]:
        self.asked.append(texts)
        if self.fault:
            raise DanqingError("engine_not_ready")
        return [{"饕餮纹": "taotie pattern", "狻猊": "suanni beast"}.get(text, "") for text in texts]


def context_of(settings: Settings, data: Path, way: str = "model", fault: bool = False) -> UiContext:
    service = Service(asked=[], fault=fault, gallery=SimpleNamespace(data=data))
    values: Any = Settings(settings.rows.values(), {"translate_with": way})
    return UiContext(service, FakeLibrary(), values, lambda request: "ann")  # type: ignore[arg-type]


def test_runs_the_dictionary_does_not_know_are_named_once() -> None:
    assert unknown_runs(PROMPT) == ["饕餮纹", "狻猊"]
    assert unknown_runs("水墨画, a cat <lora:饕餮:1>") == []
    assert translated(PROMPT, {"饕餮纹": "taotie pattern", "狻猊": "suanni beast"}) == (
        "(ink wash painting:1.3), [taotie pattern:suanni beast:0.5], <lora:饕餮:0.8> suanni beast, cat"
    )


def test_unknown_runs_are_asked_for_once_and_remembered(settings: Settings, tmp_path: Path) -> None:
    context = context_of(settings, tmp_path)
    known = Translations()

    async def work() -> None:
        await known.learn(context, [PROMPT, "狻猊"])
        await known.learn(context, ["两只狻猊"])
        await known.learn(context, [PROMPT])

    asyncio.run(work())
    assert context.service.asked == [["饕餮纹", "狻猊"], ["两只狻猊"]]  # type: ignore[attr-defined]
    assert known.english(PROMPT).startswith("(ink wash painting:1.3), [taotie pattern:suanni beast:0.5]")
    assert "狻猊" in known.english("两只狻猊"), "what nobody could translate stays to be seen"


@pytest.mark.parametrize(("way", "fault"), [("dictionary", False), ("auto", False), ("model", True)])
def test_without_a_translator_the_dictionary_is_left(settings: Settings, tmp_path: Path, way: str, fault: bool) -> None:
    context, known = context_of(settings, tmp_path, way, fault), Translations()
    asyncio.run(known.learn(context, [PROMPT]))
    assert known.english(PROMPT) == translated(PROMPT)
    assert way_of(context) == ("model" if fault else "dictionary")
    assert replace(context, translations=known).translations is known
