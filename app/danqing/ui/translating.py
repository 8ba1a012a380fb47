"""Chinese prompts in English: the dictionary of terms first, and for runs that it does not know a translation model.

Which one is a setting: the model in the engine's process where its files are on disk, or Amazon Translate. What was translated
once is remembered, so that writing on asks for new words only; where nobody translates, unknown words stay as they are.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from danqing.errors import DanqingError
from danqing.library import translator
from danqing.prompt.terms import translated, unknown_runs

if TYPE_CHECKING:
    from danqing.ui.context import UiContext

log = structlog.get_logger(__name__)

REMEMBERED = 5000
MOST_RUNS = 64
"""Of one prompt; more is no prompt that a person writes."""


class Translations:
    """What was translated so far. Belongs to one event loop."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def english(self, prompt: str) -> str:
        """The prompt in English, as far as it is known."""
        return translated(prompt, self._known)

    async def learn(self, context: UiContext, prompts: Sequence[str]) -> None:
        """Have the runs translated that the dictionary does not know. What fails is logged, and leaves them as they are."""
        runs = [run for prompt in prompts for run in unknown_runs(prompt)]
        new = [run for run in dict.fromkeys(runs) if run not in self._known][:MOST_RUNS]
        way = way_of(context)
        if not new or way == "dictionary":
            return
        try:
            found = await _asked(context, way, new)
        except DanqingError as error:
            log.warning("prompts not translated", way=way, error=error.text("en"))
            return
        for run, english in zip(new, found, strict=True):
            if english:
                self._known[run] = english
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def way_of(context: UiContext) -> str:
    """How unknown words are translated: "model", "amazon" or "dictionary"."""
    wanted = context.settings.get_str("translate_with")
    if wanted == "auto":
        return "model" if translator.is_there(context.data) else "dictionary"
    return wanted


async def _asked(context: UiContext, way: str, runs: list[str]) -> list[str]:
    if way == "model":
        return await context.service.translate(runs)
    from danqing.cloud.translation import translated as by_amazon

    region = context.settings.get_str("translate_region")
    return [_plain(text) for text in await asyncio.to_thread(by_amazon, runs, region)]


def _plain(text: str) -> str:
    """Without signs that mean something in a prompt."""
    return " ".join("".join(" " if letter in "()[]{}<>|:\\" else letter for letter in text).split()).strip(" .,;!?")
