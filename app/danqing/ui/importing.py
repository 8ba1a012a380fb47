"""Gradio imported without what it writes for editors.

Whenever a component's class is made, Gradio reads its source as a syntax tree and writes a stub file beside it: half of the time
that importing it takes, and files in a folder that is no business of a server's.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_stubs() -> Iterator[None]:
    """While this lasts, classes have no source file, and Gradio passes them over, as it does with those made on the fly."""
    found = inspect.getfile

    def file_of(thing: Any) -> str:
        if inspect.isclass(thing):
            raise OSError("no source file")
        return found(thing)

    inspect.getfile = file_of  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = found
