"""What the page needs of the rest of the house, handed in by the app so that nothing here is global."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from danqing.api.drawing_options import drawing_options
from danqing.api.options import Option, load_table
from danqing.options import DrawOptions
from danqing.ui.translating import Translations

if TYPE_CHECKING:
    from starlette.requests import Request

    from danqing.api.auth import Logins
    from danqing.api.options import Options
    from danqing.jobs.service import JobService
    from danqing.library.index import Library
    from danqing.settings import Settings


class Desk(Protocol):
    """The service's own end of the system tab."""

    @property
    def restarts(self) -> bool:
        """Whether somebody starts the service again when it ends."""

    def lines(self, after: int = 0) -> tuple[int, list[str]]:
        """Lines of the log behind number `after`, and the number of the last one."""

    def versions(self) -> dict[str, object]:
        """Of the programs that matter."""

    def bundle(self, told: Mapping[str, object]) -> bytes:
        """A .tar.gz of what was told and the log, without secrets."""

    def restart(self) -> None:
        """End the service; it is started again."""


@dataclass(frozen=True, slots=True)
class UiContext:
    """The page's view of the service.

    Args:
        owner_of: who sends a request: a user's name, or "local" where no login is asked.
        cache: folder for Gradio's temporary files, `DATA/cache/gradio` on a running service; None leaves it to Gradio.
        options: what clients have set; None draws with the defaults.
        client_of: whose options apply to a request.
        translations: what prompts were translated to.
        desk: log, versions, bundle and restart of this service; None where there are none.
        logins: who may log in; None where nobody does.
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
    desk: Desk | None = None
    translations: Translations = field(default_factory=Translations)
    logins: Logins | None = None

    @property
    def data(self) -> Path:
        """The data root."""
        return self.service.gallery.data

    def option(self, request: Request, key: str) -> Any:
        """One of the WebUI's options as this reader has set it."""
        return self.options.of(self.client_of(request))[key] if self.options else self.option_table()[key].default

    def drawing_options(self, request: Request) -> DrawOptions:
        """The options of drawing as this reader has set them."""
        return drawing_options(self.options.of(self.client_of(request))) if self.options else DrawOptions()

    def own_fields(self, request: Request) -> dict[str, Any]:
        """Fields of a request that this reader's options say: whose random numbers."""
        return {"rng": self.options.of(self.client_of(request))["randn_source"]} if self.options else {}

    def option_table(self) -> dict[str, Option]:
        """The rows of all options."""
        return self.options.table if self.options else load_table()
