"""What the page needs of the rest of the house, handed in by the app so that nothing here is global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

    from danqing.jobs.service import JobService
    from danqing.library.index import Library
    from danqing.settings import Settings


@dataclass(frozen=True, slots=True)
class UiContext:
    """The page's view of the service.

    Args:
        owner_of: who sends a request: a user's name, or "local" where no login is asked.
        cache: folder for Gradio's temporary files, `DATA/cache/gradio` on a running service; None leaves it to Gradio.
    """

    service: JobService
    library: Library
    settings: Settings
    owner_of: Callable[[Request], str]
    cache: Path | None = None
