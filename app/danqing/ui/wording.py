"""The prompts as the model is to read them: with the chosen styles, and in English where they are Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from danqing.prompt.styles import for_script, styled, styles_of
from danqing.prompt.terms import has_chinese
from danqing.ui.examples import MINI_SIZE

if TYPE_CHECKING:
    from danqing.request import GenerateRequest
    from danqing.ui.context import UiContext


def spoken(context: UiContext, request: GenerateRequest, boxes: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Both prompts of `request` as its owner hands them in, or its script with the styles of what it makes. Blocks.

    Raises:
        DanqingError: `text_too_long`, when styles make a prompt too long.
    """
    limit = context.settings.get_int("limit_prompt")
    names = [one for one in boxes.get("styles") or [] if isinstance(one, str)]
    prompt, negative = request.prompt, request.negative_prompt
    if request.kind != "extras" and translates(context, request.model, str(boxes.get("translate") or "auto")):
        prompt = _english(context, prompt, boxes.get("english"))
        negative = _english(context, negative, boxes.get("english_negative"))
    if request.script is not None:
        script = request.script.model_dump()
        script |= for_script(script["args"], names, styles_of(context.data, owner))
        return {"prompt": prompt, "negative_prompt": negative, "script": script}
    if names:
        prompt, negative = styled(prompt, negative, names, styles_of(context.data, owner), limit)
    return {"prompt": prompt, "negative_prompt": negative}


def translates(context: UiContext, model: str, wish: str) -> bool:
    """Whether Chinese prompts are turned into English: the miniature model was taught to read Chinese."""
    if wish in ("always", "never"):
        return wish == "always"
    return context.library.resolve(model).native_size >= MINI_SIZE


def _english(context: UiContext, prompt: str, written: Any) -> str:
    """The translation that stands in its box (people may have mended it), else what is known of it."""
    if not has_chinese(prompt):
        return prompt
    return written.strip() if isinstance(written, str) and written.strip() else context.translations.english(prompt)
