"""The draw, for one picture: the drawn prompt takes the template's place, and the infotext keeps both."""

from __future__ import annotations

import random
from pathlib import Path

from danqing.plugins import Change, hookimpl
from danqing.request import GenerateRequest
from danqing.shipped.wildcards.grammar import Cards, drawn, is_dynamic
from danqing.shipped.wildcards.plugin import SCRIPT

LABELS = {"prompt": "Template", "negative_prompt": "Negative Template"}


@hookimpl
def danqing_before_picture(request: GenerateRequest, index: int, data: Path) -> Change | None:
    args = SCRIPT.arguments(request)
    if not args["on"] or not any(is_dynamic(getattr(request, field)) for field in LABELS):
        return None
    # By the job's seed and the place, so that a job drawn again gives the same prompts, and variations of a seed differ too.
    lot = request.seed + (index if args["each"] else 0)
    made = {
        field: drawn(getattr(request, field), random.Random(f"{lot} {field}"), Cards(data / "wildcards"))
        for field in LABELS
    }
    pairs = {LABELS[field]: getattr(request, field) for field in LABELS if made[field] != getattr(request, field)}
    return Change(request.model_copy(update=made), pairs) if pairs else None
