"""Styles of a request whose script makes prompts: they belong to what it makes, not to what it makes them of."""

from __future__ import annotations

from danqing.prompt.styles import apply_styles
from danqing.request import GenerateRequest, Script

LIMIT = 10**6
"""Characters of a prompt that no number of styles makes longer."""


def styled(request: GenerateRequest, script: Script | None) -> GenerateRequest:
    """The request with the styles of `script` in its prompts.

    Raises:
        DanqingError: `text_too_long`, when styles that repeat the prompt make it too long.
    """
    if script is None or not script.styles:
        return request
    names = ("prompt", "negative_prompt")
    texts = {name: [getattr(style, name) for style in script.styles] for name in names}
    return request.model_copy(
        update={name: apply_styles(getattr(request, name), texts[name], LIMIT, name) for name in names}
    )
