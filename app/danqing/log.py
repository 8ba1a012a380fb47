"""Logging: structlog on top of the standard library, one line an event, JSON or readable.

Context is bound (`structlog.contextvars.bind_contextvars(job=..., user=...)`), not formatted into the message. Prompts,
passwords and the contents of pictures are never logged.
"""

from __future__ import annotations

import logging
import sys
from collections import deque

import structlog

Processors = list[structlog.typing.Processor]


TAIL_LINES = 2000
TOLD = "danqing.told"
"""The logger of lines that another process has printed already: they go to the tail only."""


class Tail(logging.Handler):
    """The last lines of the log, in memory, numbered from 1."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
        self._number += 1

    def after(self, number: int) -> tuple[int, list[str]]:
        """The number of the last line, and the lines behind `number` that are still there."""
        lines, last = list(self._lines), self._number
        new = max(0, last - number) if number <= last else len(lines)
        return last, lines[len(lines) - min(new, len(lines)) :]


def tail() -> Tail:
    """The tail of this process's log; an empty one where `configure` was not called."""
    return next((one for one in logging.getLogger().handlers if isinstance(one, Tail)), Tail())


def configure(form: str = "console", level: str = "info") -> None:
    """Send everything that is logged to stderr, and keep the last lines.

    Args:
        form: "json" for one JSON object a line, "console" for people.
        level: name of the lowest level shown: debug, info, warning or error.
    """
    shared = _shared()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_final(form)))
    root = logging.getLogger()
    keeper = Tail()
    keeper.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_final("console", colours=False))
    )
    root.handlers[:] = [handler, keeper]
    told = logging.getLogger(TOLD)
    told.handlers[:], told.propagate = [keeper], False
    root.setLevel(level.upper())
    for name, least in (("uvicorn", logging.WARNING), ("httpx", logging.WARNING), ("asyncio", logging.WARNING)):
        logging.getLogger(name).setLevel(max(least, root.level))


def _shared() -> Processors:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _final(form: str, colours: bool | None = None) -> Processors:
    keep: Processors = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if form == "json":
        return [*keep, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    # Locals in tracebacks would carry prompts and passwords into the log.
    plain, shown = structlog.dev.plain_traceback, sys.stderr.isatty() if colours is None else colours
    return [*keep, structlog.dev.ConsoleRenderer(colors=shown, exception_formatter=plain)]
