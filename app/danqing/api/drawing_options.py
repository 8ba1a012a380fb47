"""From the WebUI's options, as they stand for one request, to the options that are part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from danqing.errors import DanqingError
from danqing.options import DrawOptions


def drawing_options(options: Mapping[str, Any]) -> DrawOptions:
    """The options that change a picture.

    Raises:
        DanqingError: `invalid_field`.
    """
    values = {key: options[key] for key in DrawOptions.model_fields if options.get(key) is not None}
    try:
        return DrawOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DanqingError("invalid_field", field=str(first["loc"][0]), reason=first["msg"]) from None
