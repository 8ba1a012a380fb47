"""What the page needs of the rest of the house, handed in by the app so that nothing here is global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danqing.api.drawing_options import drawing_options, eta_of
from danqing.api.options import Option, load_table
from danqing.options import DrawOptions

if TYPE_CHECKING:
    from starlette.requests import Request

    from danqing.api.options import Options
    from danqing.jobs.service import JobService
    from danqing.library.index import Library
    from danqing.settings import Settings


@dataclass(frozen=True, slots=True)
class UiContext:
    """The page's view of the service.

    Args:
        owner_of: who sends a request: a user's name, or "local" where no login is asked.
        cache: folder for Gradio's temporary files, `DATA/cache/gradio` on a running service; None leaves it to Gradio.
        options: what clients have set; None draws with the defaults.
        client_of: whose options apply to a request.
        steers: whether who sends a request looks after the machine: models and the house's styles are everybody's.
    """

    service: JobService
    library: Library
    settings: Settings
    owner_of: Callable[[Request], str]
    cache: Path | None = None
    options: Options | None = None
    client_of: Callable[[Request], str] = field(default=lambda request: "")
    steers: Callable[[Request], bool] = field(default=lambda request: False)

    @property
    def data(self) -> Path:
        """The data root."""
        return self.service.gallery.data

    def drawing_options(self, request: Request) -> DrawOptions:
        """The options of drawing as this reader has set them."""
        return drawing_options(self.options.of(self.client_of(request))) if self.options else DrawOptions()

    def own_fields(self, request: Request, sampler: str) -> dict[str, Any]:
        """Fields of a request that this reader's options say: whose random numbers, and eta."""
        if self.options is None:
            return {}
        mine = self.options.of(self.client_of(request))
        return {"rng": mine["randn_source"], "eta": eta_of(None, mine, sampler)}

    def option_table(self) -> dict[str, Option]:
        """The rows of all options."""
        return self.options.table if self.options else load_table()
