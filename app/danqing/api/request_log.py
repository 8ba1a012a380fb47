"""A line of the log for each request: what was asked for, by whom, about which job, and how it ended.

Routes are named by their templates, never by the path or the query that came: those may hold the secrets of links.
"""

from __future__ import annotations

import structlog

from danqing.api.auth import OWNER_KEY
from danqing.api.errors import Scope

JOB_KEY = "danqing.job"
"""Where a route leaves the id of the job that its request became."""

OFF, CHANGES, ALL = "off", "changes", "all"
LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
POLLS = frozenset({"/internal/progress"})
"""What is asked for all the time, and changes nothing whatever its method."""

log = structlog.get_logger(__name__)


class RequestLog:
    """Which requests get a line.

    Args:
        which: `off`; `changes`: what may change something, and what was refused or failed; or `all`.
    """

    def __init__(self, which: str) -> None:
        self.which = which

    def over(self, scope: Scope, status: int, seconds: float) -> None:
        """A request has ended; `status` is 0 where its client went before there was an answer."""
        route = str(getattr(scope.get("route"), "path", "")) or "none"
        if not self._wanted(scope["method"], route, status):
            return
        told = {"user": scope.get(OWNER_KEY), "job": scope.get(JOB_KEY) or scope.get("path_params", {}).get("job_id")}
        known = {key: value for key, value in told.items() if value}
        log.info("request", method=scope["method"], route=route, status=status, seconds=round(seconds, 3), **known)

    def _wanted(self, method: str, route: str, status: int) -> bool:
        if self.which != CHANGES:
            return self.which == ALL
        return status >= 400 or (method not in LOOKING and route not in POLLS)
